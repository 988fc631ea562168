"""From saliency to a `Plan`: N:M first, then blocks under one budget over all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.masks.allocation import RankColumns, allocate, rank_columns
from crisp_onnx.masks.hybrid import block_mask, block_sums, kept_blocks, nm_mask
from crisp_onnx.masks.plan import DenseLayer, Plan, SparseLayer
from crisp_onnx.model import WeightLayer

FLOOR = 0.5
# A budget counts as met within 0.005; columns of a few wide layers may be coarser than that.
SLACK = 0.0025


@dataclass(frozen=True)
class Budget:
    """What to keep: `kept_weights`, of the prunable layers' weights; or `kept_macs`, of the whole model's MACs."""

    kept_weights: float | None = None
    kept_macs: float | None = None

    def __post_init__(self) -> None:
        given = [share for share in (self.kept_weights, self.kept_macs) if share is not None]
        if len(given) != 1:
            raise CrispError("Give either --sparsity or --macs, not both: one budget decides.")
        if not 0 < given[0] <= 1:
            name, value = ("--sparsity", 1 - given[0]) if self.kept_weights is not None else ("--macs", given[0])
            raise CrispError(f"{name} {value:g} is out of range. Use a number between 0 and 1, for example 0.8.")


@dataclass(frozen=True)
class _Scored:
    layer: WeightLayer
    nm: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    columns: RankColumns


def choose(
    saliency: Mapping[str, npt.NDArray[np.floating]],
    layers: Sequence[WeightLayer],
    pattern: Pattern,
    budget: Budget,
    *,
    dense_reasons: Mapping[str, str],
    floor: float = FLOOR,
) -> Plan:
    """Choose masks for every layer without a reason to stay dense.

    Args:
        saliency: (Cout, Cin, kh, kw) by weight name, non-negative; needed for the layers that may become sparse.
        dense_reasons: reason by layer name for those that stay dense.

    Raises:
        CrispError: no prunable layer, a budget above what N:M alone already removes, or a saliency that is not finite.
    """
    scored = [
        _score(layer, saliency[layer.weight], pattern, macs=budget.kept_macs is not None)
        for layer in layers
        if not dense_reasons.get(layer.name)
    ]
    if not scored:
        reasons = "; ".join(sorted({reason for reason in dense_reasons.values() if reason})) or "no weight layers"
        raise CrispError(f"No prunable layer: {reasons}. `crisp-onnx check` shows every layer.")
    target = _target(scored, layers, pattern, budget)
    whole = sum(i.layer.weights for i in scored) if budget.kept_macs is None else sum(i.macs for i in layers)
    keep = allocate([item.columns for item in scored], target, floor=floor, tolerance=SLACK * whole)
    chosen = {item.layer.name: _apply(item, pattern, s) for item, s in zip(scored, keep, strict=True)}
    return Plan(tuple(chosen.get(layer.name) or DenseLayer(layer, dense_reasons[layer.name]) for layer in layers))


def _score(layer: WeightLayer, saliency: npt.NDArray[np.floating], pattern: Pattern, *, macs: bool) -> _Scored:
    if not np.isfinite(saliency).all():
        raise CrispError(
            f"The saliency of layer {layer.name!r} is not finite: the model overflows on these images. "
            "Check --preprocess, or keep the layer dense with --keep-dense."
        )
    matrix = padded_matrix(saliency, pattern.block)
    nm = nm_mask(matrix, pattern)
    real = padded_matrix(np.ones(layer.shape, bool), pattern.block)
    scores = block_sums(matrix * nm, pattern.block).astype(np.float64)
    cost = block_sums(nm & real, pattern.block).astype(np.float64)
    unit = float(layer.positions or 1) if macs else 1.0
    return _Scored(layer, nm, scores, rank_columns(scores, cost * unit))


def _target(scored: Sequence[_Scored], layers: Sequence[WeightLayer], pattern: Pattern, budget: Budget) -> float:
    """Kept weights or kept MACs of the sparse layers that fulfil the budget."""
    after_nm = sum(float(item.columns.cost.sum()) for item in scored)
    if budget.kept_weights is not None:
        target = budget.kept_weights * sum(item.layer.weights for item in scored)
        after_share = after_nm / sum(item.layer.weights for item in scored)
        asked, least = f"--sparsity {1 - budget.kept_weights:g}", f"at least {1 - after_share:.3g}"
    else:
        share = budget.kept_macs or 0.0
        sparse = {item.layer.name for item in scored}
        fixed = sum(layer.macs for layer in layers if layer.name not in sparse)
        total = sum(layer.macs for layer in layers)
        target = share * total - fixed
        asked, least = f"--macs {share:g}", f"at most {(fixed + after_nm) / total:.3g}"
        if target <= 0:
            raise CrispError(
                f"--macs {share:g} cannot be met: the layers that stay dense need {fixed / total:.3f} of all MACs. "
                "`crisp-onnx check` shows which and why."
            )
    if target > after_nm * 1.005:
        raise CrispError(f"{asked} keeps more than pattern {pattern} does. Ask for {least}, or a denser pattern.")
    return target


def _apply(item: _Scored, pattern: Pattern, keep: int) -> SparseLayer:
    kept = kept_blocks(item.scores, keep)
    mask = item.nm & block_mask(kept, item.scores.shape[1], pattern.block)
    return SparseLayer(item.layer, pattern, kept, from_matrix(mask, item.layer.shape))
