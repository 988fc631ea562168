"""Let a target steer the compression: the plan of most worth within its milliseconds or millijoules.

A layer's worth is the loss that its blocks save, where that was measured. Else it is the square root of the saliency
that it keeps, so the first blocks of a layer count for more than its last. Saliency itself, as a sum, lets layers of
little saliency starve while others stay dense, and loses accuracy to a global threshold with a floor; docs/targets.md
has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, sqrt
from typing import Literal

import numpy as np

from crisp_onnx.cost.estimator import cost_operators
from crisp_onnx.cost.knapsack import Option, solve
from crisp_onnx.cost.layer import LayerCost, cost_layer
from crisp_onnx.errors import CrispError, enough
from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.layers import lower_again
from crisp_onnx.lowering.lowered import Lowered, LoweredOp
from crisp_onnx.lowering.target import Target
from crisp_onnx.lowering.timing import weight_bytes
from crisp_onnx.masks import Candidates, Curve, DenseLayer, Plan, Planner, Saliency, SparseLayer, Spent, Threshold
from crisp_onnx.masks.planner import BUDGET_TOLERANCE
from crisp_onnx.masks.scored import ScoredLayer

MOST_OPTIONS = 96
TIGHTENINGS = 8
ROUNDING = 1e-9
Objective = Literal["latency_ms", "energy_mj"]


@dataclass(frozen=True)
class Steered:
    """The plan of most worth, summed over the layers, while the whole model stays within a limit on a target.

    Each layer may keep any number of blocks per block row, or stay dense; what that costs is what the estimator says,
    so lanes, memory and overhead count. A layer that gains nothing at any number stays dense.

    `limit`: of one inference of the whole model, in milliseconds or nominal millijoules, as `of` says. `lowered`: the
    dense model on `target`; its operators are matched by node name.

    Raises:
        CrispError: a limit that is not above 0.
    """

    candidates: Candidates
    limit: float
    of: Objective
    lowered: Lowered
    target: Target

    def __post_init__(self) -> None:
        if not 0 < self.limit < inf:
            raise CrispError(f"{self._asked} is out of range. Give a budget above 0.")

    def plan(self, saliency: Saliency) -> Plan:
        """See `Planner`.

        Raises:
            CrispError: the budget cannot be met, or the target tells nothing about energy when that is the budget.
        """
        outside = f"{self.target.name} was not given its shape"
        free = self.candidates.free
        candidates = self.candidates.without({x.name: outside for x in free if x.name not in self._costs})
        scored = candidates.scored(saliency)
        options = [_options(item, self._costs[item.layer.name]) for item in scored]
        dense = cost_operators("dense", self.lowered.operators, self.target)
        named = {item.layer.name for item in scored}
        movable = sum(_amount(layer, self.of) for layer in dense.layers if layer.name in named)
        fixed = self.cost(Plan()) - movable
        least = self._reachable(options, fixed)
        limit = self.limit
        for _ in range(TIGHTENINGS):
            if limit < least:
                break
            picked = zip(scored, solve(options, limit - fixed), strict=True)
            plan = candidates.plan([self._decide(item, option) for item, option in picked])
            excess = self.cost(plan) - self.limit
            if excess <= self.limit * ROUNDING:
                return plan
            limit -= excess  # the layout changes between layers depend on all of them, so no option holds their cost
        raise CrispError(f"{self._asked} cannot be met on {self.target.name} with layout changes. Ask for more.")

    def measured(self, curves: Mapping[str, Curve]) -> Steered:
        """See `Planner`."""
        return replace(self, candidates=replace(self.candidates, curves=curves))

    def loosened(self, kept: float) -> Planner:
        """See `Planner`: towards what this one plans, by a threshold."""
        return _Towards(self, kept) if kept else self

    def spent(self, plan: Plan) -> Spent:
        """See `Planner`."""
        reached = self.cost(plan)
        return Spent(self.of, self.limit, reached, met=reached <= self.limit * (1 + BUDGET_TOLERANCE))

    def cost(self, plan: Plan) -> float:
        """Milliseconds or millijoules of the whole model with `plan`; layers without a decision count as dense."""
        sparse = {decision.layer.name: decision for decision in plan.sparse()}
        operators = []
        for op in self.lowered.operators:
            decision = sparse.get(op.name)
            kept = None if decision is None else decision.kept.shape[1]
            operators.append(op if kept is None else self._sparse(op, kept))
        variant = cost_operators("as_is", tuple(operators), self.target)
        return variant.latency_ms if self.of == "latency_ms" else (variant.nominal_uj or 0.0) / 1e3

    def _sparse(self, op: LoweredOp, kept: int) -> LoweredOp:
        """`op` with `kept` blocks per block row."""
        p = self.candidates.pattern
        seen = LayerSparsity(p.n, p.m, p.block, p.block, kept, p.vector_rows, hybrid=True)
        return lower_again(op, seen, self.target, self.lowered.dtype, hybrid=True)

    @cached_property
    def _costs(self) -> dict[str, dict[int | None, float]]:
        """Cost by layer name and blocks per block row (at most 96 numbers, evenly spread), dense under `None`."""
        weights = weight_bytes(self.lowered.operators)  # of the dense model: the plan's are not known yet, and fewer
        ops = {op.name: op for op in self.lowered.operators}
        costs: dict[str, dict[int | None, float]] = {}
        for layer in self.candidates.free:
            if layer.name not in ops:
                continue
            columns = self.candidates.pattern.block_columns(layer.shape)
            spread = np.unique(np.linspace(1, columns, min(columns, MOST_OPTIONS)).round().astype(int)).tolist()
            forms: dict[int | None, LoweredOp] = {None: ops[layer.name]}
            forms |= {kept: self._sparse(ops[layer.name], kept) for kept in spread}
            costs[layer.name] = {
                kept: _amount(cost_layer(form, self.target, model_weight_bytes=weights), self.of)
                for kept, form in forms.items()
            }
        return costs

    def _reachable(self, options: Sequence[Sequence[Option]], fixed: float) -> float:
        """The least that the whole model costs; an error where that exceeds the budget."""
        least = fixed + sum(min(option.cost for option in of_layer) for of_layer in options)
        if least > self.limit * (1 + ROUNDING):
            pattern, unit = self.candidates.pattern, self.of.rsplit("_", 1)[1]
            raise CrispError(
                f"{self._asked} cannot be met on {self.target.name}: pattern {pattern} in blocks of {pattern.block} "
                f"costs at least {enough(least)} {unit}, {fixed:.4g} of it in what stays dense. Ask for more."
            )
        return least * (1 - ROUNDING)

    def _decide(self, item: ScoredLayer, option: Option) -> SparseLayer | DenseLayer:
        if option.kept is not None:
            return item.keep(option.kept)
        return DenseLayer(item.layer, f"sparsity gains nothing that is worth its saliency here on {self.target.name}")

    @property
    def _asked(self) -> str:
        return f"--{self.of.replace('_', '-')} {self.limit:.4g}"


@dataclass(frozen=True)
class _Towards:
    """On the way to what `goal` plans: its dense layers dense, and its sparsity, loosened, by a threshold."""

    goal: Steered
    kept: float

    @property
    def candidates(self) -> Candidates:
        return self.goal.candidates

    def plan(self, saliency: Saliency) -> Plan:
        planned = self.goal.plan(saliency)
        if not any(planned.sparse()):
            return planned
        dense = {
            decision.layer.name: decision.reason for decision in planned.layers if isinstance(decision, DenseLayer)
        }
        kept = min(1 - planned.sparsity, self.candidates.pattern.density)
        return Threshold(self.candidates.without(dense), kept).loosened(self.kept).plan(saliency)

    def measured(self, curves: Mapping[str, Curve]) -> Planner:
        return _Towards(self.goal.measured(curves), self.kept)

    def loosened(self, kept: float) -> Planner:
        return _Towards(self.goal, self.kept + (1 - self.kept) * kept)

    def spent(self, plan: Plan) -> Spent:
        return self.goal.spent(plan)


def _options(item: ScoredLayer, costs: Mapping[int | None, float]) -> list[Option]:
    """What each cost buys: the loss that is saved where it is known, the square root of the saliency kept elsewhere."""
    kept_saliency = np.cumsum(item.columns.saliency[::-1])
    worth = {kept: item.whole if kept is None else float(kept_saliency[kept - 1]) for kept in costs}
    return [Option(kept, worth[kept] if item.known else sqrt(worth[kept]), cost) for kept, cost in costs.items()]


def _amount(cost: LayerCost, objective: Objective) -> float:
    """ms, or mJ at the nominal figures."""
    if objective == "latency_ms":
        return cost.latency_ms
    if cost.nominal_uj is None:
        raise CrispError("This target says nothing about energy. Use --latency-ms, or add an energy table to it.")
    return cost.nominal_uj / 1e3
