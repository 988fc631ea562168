"""Let a target steer the compression: its rewarded pattern, and the plan of most worth within a budget.

A layer's worth is the square root of the saliency that it keeps, so the first blocks of a layer count for more than its
last. Saliency itself, as a sum, lets layers of little saliency starve while others stay dense, and loses accuracy to a
global threshold with a floor; `benchmarks/steered_accuracy.py` has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from crisp_onnx.cost.estimate import cost_operators
from crisp_onnx.cost.knapsack import Option, solve
from crisp_onnx.cost.layer import LayerCost, cost_layer
from crisp_onnx.errors import CrispError
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.lower.layers import lower_again
from crisp_onnx.lower.lowered import Lowered, LoweredOp
from crisp_onnx.lower.pattern import Pattern as SeenPattern
from crisp_onnx.lower.target import Target
from crisp_onnx.lower.timing import weight_bytes
from crisp_onnx.masks.allocation import RankColumns, rank_columns
from crisp_onnx.masks.hybrid import block_mask, block_sums, kept_blocks, nm_mask
from crisp_onnx.masks.plan import DenseLayer, Plan, SparseLayer
from crisp_onnx.model import WeightLayer

MOST_OPTIONS = 96
TIGHTENINGS = 8
ROUNDING = 1e-9
BLOCK_SIDE = 16
KERNEL_VECTOR_ROWS = 8
Objective = Literal["latency_ms", "energy_mj"]


@dataclass(frozen=True)
class TargetBudget:
    """One limit for the whole model and one inference: milliseconds or millijoules (nominal)."""

    latency_ms: float | None = None
    energy_mj: float | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.latency_ms, self.energy_mj) if limit is not None]
        if len(given) != 1 or given[0] <= 0:
            raise CrispError("Give one budget above 0: --latency-ms or --energy-mj.")

    @property
    def objective(self) -> Objective:
        return "latency_ms" if self.latency_ms is not None else "energy_mj"

    @property
    def limit(self) -> float:
        return self.latency_ms if self.latency_ms is not None else self.energy_mj or 0.0


def rewarded_pattern(target: Target) -> tuple[Pattern, str]:
    """(the pattern that `target` gains most from, why, in a sentence).

    Raises:
        CrispError: the target skips no zeros that hybrid sparsity can give.
    """
    sparsity = target.descriptor.sparsity
    skipped = [support for support in sparsity.nm if support.compute == "skip"]
    blocks = sparsity.block is not None and sparsity.block.compute == "skip"
    loose = sparsity.unstructured is not None and sparsity.unstructured.compute == "skip"
    if not skipped and not blocks and not loose:
        raise CrispError(
            f"Target {target.name} skips no zeros, so sparsity would not make the model faster there. "
            "Remove channels instead, or choose another target (`crisp-onnx targets`)."
        )
    keep, group = 2, 4
    if skipped and not any(support.pattern == "2:4" for support in skipped):
        densest = max(skipped, key=lambda support: support.keep / support.group)
        keep, group = densest.keep, densest.group
    elif not skipped and not loose:
        keep = group = 4
    side = BLOCK_SIDE
    if sparsity.block is not None:
        side = max(side, target.whole(sparsity.block.full_rate_bh), target.whole(sparsity.block.min_bh))
    side = -(-side // group) * group
    vector = KERNEL_VECTOR_ROWS if sparsity.hybrid_operators_only and side % KERNEL_VECTOR_ROWS == 0 else 1
    nm = f"{keep}:{group}" if keep < group else "blocks alone"
    why = f"{target.name} takes {nm} in blocks of {side}" + ("" if blocks else "; it gains nothing from dropped blocks")
    return Pattern(keep, group, side, vector), why


def steer(
    saliency: Mapping[str, npt.NDArray[np.floating]],
    layers: Sequence[WeightLayer],
    pattern: Pattern,
    budget: TargetBudget,
    *,
    lowered: Lowered,
    target: Target,
    dense_reasons: Mapping[str, str],
) -> Plan:
    """The plan of most worth, summed over the layers, while the whole model meets `budget` on `target`.

    Each layer may keep any number of blocks per block row, or stay dense; what that costs is what the estimator says,
    so lanes, memory and overhead count. A layer that gains nothing at any number stays dense.

    Args:
        saliency: (Cout, Cin, kh, kw) by weight name, non-negative.
        lowered: the dense model on `target`; its operators are matched by node name.
        dense_reasons: reason by layer name for those that must stay dense.

    Raises:
        CrispError: the budget cannot be met, or the target tells nothing about energy when that is the budget.
    """
    ops = {op.name: op for op in lowered.operators}
    free = [layer for layer in layers if not dense_reasons.get(layer.name) and layer.name in ops]
    scored = [_Scored(layer, *_scores(layer, saliency[layer.weight], pattern)) for layer in free]
    options = [
        _options(item, ops[item.layer.name], pattern, target, lowered=lowered, objective=budget.objective)
        for item in scored
    ]
    dense = cost_operators("dense", lowered.operators, target)
    named = {item.layer.name for item in scored}
    movable = sum(_amount(layer, budget.objective) for layer in dense.layers if layer.name in named)
    whole = dense.latency_ms if budget.objective == "latency_ms" else (dense.nominal_uj or 0.0) / 1e3
    fixed = whole - movable
    least = _reachable(budget, options, fixed, f"{target.name}: pattern {pattern} in blocks of {pattern.block}")
    outside = f"{target.name} was not given its shape"
    left = {layer.name: DenseLayer(layer, dense_reasons.get(layer.name) or outside) for layer in layers}
    limit = budget.limit
    for _ in range(TIGHTENINGS):
        if limit < least:
            break
        chosen = {
            item.layer.name: _decide(item, option, pattern, target)
            for item, option in zip(scored, solve(options, limit - fixed), strict=True)
        }
        plan = Plan(tuple(chosen.get(layer.name) or left[layer.name] for layer in layers))
        excess = plan_cost(plan, lowered, target, budget.objective) - budget.limit
        if excess <= budget.limit * ROUNDING:
            return plan
        limit -= excess  # the layout changes between layers depend on all of them, so no option holds their cost
    raise CrispError(f"{_named(budget)} cannot be met on {target.name} with layout changes. Ask for more.")


def _reachable(budget: TargetBudget, options: Sequence[Sequence[Option]], fixed: float, what: str) -> float:
    """The least that the whole model costs; an error where that exceeds the budget."""
    least = fixed + sum(min(option.cost for option in of_layer) for of_layer in options)
    if least > budget.limit * (1 + ROUNDING):
        unit = budget.objective.rsplit("_", 1)[1]
        raise CrispError(
            f"{_named(budget)} cannot be met on {what} costs at least {least:.4g} {unit}, "
            f"{fixed:.4g} of it in what stays dense. Ask for more."
        )
    return least * (1 - ROUNDING)


def _named(budget: TargetBudget) -> str:
    return f"--{budget.objective.replace('_', '-')} {budget.limit:.4g}"


@dataclass(frozen=True)
class _Scored:
    layer: WeightLayer
    nm: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    columns: RankColumns
    whole: float


def _scores(
    layer: WeightLayer, saliency: npt.NDArray[np.floating], pattern: Pattern
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], RankColumns, float]:
    """(N:M mask, block scores, rank columns, saliency of the dense layer)."""
    matrix = padded_matrix(saliency, pattern.block)
    nm = nm_mask(matrix, pattern)
    scores = block_sums(matrix * nm, pattern.block).astype(np.float64)
    return nm, scores, rank_columns(scores, np.ones_like(scores)), float(np.sum(saliency, dtype=np.float64))


def _options(
    item: _Scored, op: LoweredOp, pattern: Pattern, target: Target, *, lowered: Lowered, objective: Objective
) -> list[Option]:
    """Every number of blocks per block row (at most 96 of them, evenly spread) and the dense layer."""
    columns = len(item.columns.saliency)
    kept_saliency = np.cumsum(item.columns.saliency[::-1])
    weights = weight_bytes(lowered.operators)  # of the dense model: the plan's are not known yet, and fewer
    dense = cost_layer(op, target, model_weight_bytes=weights)
    options = [Option(None, sqrt(item.whole), _amount(dense, objective))]
    for kept in np.unique(np.linspace(1, columns, min(columns, MOST_OPTIONS)).round().astype(int)):
        seen = SeenPattern(
            pattern.n, pattern.m, pattern.block, pattern.block, int(kept), pattern.vector_rows, hybrid=True
        )
        sparse = lower_again(op, seen, target, lowered.dtype, hybrid=True)
        cost = cost_layer(sparse, target, model_weight_bytes=weights)
        options.append(Option(int(kept), sqrt(kept_saliency[kept - 1]), _amount(cost, objective)))
    return options


def _amount(cost: LayerCost, objective: Objective) -> float:
    """ms, or mJ at the nominal figures."""
    if objective == "latency_ms":
        return cost.latency_ms
    if cost.nominal_uj is None:
        raise CrispError("This target says nothing about energy. Use --latency-ms, or add an energy table to it.")
    return cost.nominal_uj / 1e3


def _decide(item: _Scored, option: Option, pattern: Pattern, target: Target) -> SparseLayer | DenseLayer:
    if option.kept is None:
        return DenseLayer(item.layer, f"sparsity gains nothing that is worth its saliency here on {target.name}")
    kept = kept_blocks(item.scores, option.kept)
    mask = item.nm & block_mask(kept, item.scores.shape[1], pattern.block)
    return SparseLayer(item.layer, pattern, kept, from_matrix(mask, item.layer.shape))


def plan_cost(plan: Plan, lowered: Lowered, target: Target, objective: Objective) -> float:
    """ms or mJ of the whole model with `plan`, by the same estimates that `steer` uses."""
    sparse = {decision.layer.name: decision for decision in plan.sparse()}
    operators = []
    for op in lowered.operators:
        decision = sparse.get(op.name)
        if decision is None:
            operators.append(op)
            continue
        p = decision.pattern
        seen = SeenPattern(p.n, p.m, p.block, p.block, decision.kept.shape[1], p.vector_rows, hybrid=True)
        operators.append(lower_again(op, seen, target, lowered.dtype, hybrid=True))
    variant = cost_operators("as_is", tuple(operators), target)
    return variant.latency_ms if objective == "latency_ms" else (variant.nominal_uj or 0.0) / 1e3
