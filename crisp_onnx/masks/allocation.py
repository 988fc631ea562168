"""Share the budget among layers: remove rank columns, cheapest saliency per unit freed first, above a floor.

Rank column j of a layer is the j-th worst block of every block row, so removing whole rank columns keeps rows
balanced. Its value is the saliency it holds, its cost the weights (or MACs) it frees: greedy by value over cost
(CRISP, arXiv 2311.14272; the knapsack's relaxed optimum). The floor keeps a global threshold from starving layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RankColumns:
    """One layer's rank columns, worst first: `saliency` (C,) and `cost` (C,) freed when the column goes."""

    saliency: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]


def rank_columns(scores: npt.NDArray[np.floating], cost: npt.NDArray[np.floating]) -> RankColumns:
    """Sort every row of (R, C) block scores ascending and sum over the rows; `cost` (R, C) goes along."""
    # The stable order of -scores keeps lower columns first, so among ties the higher column must go first.
    order = np.argsort(-scores, axis=1, kind="stable")[:, ::-1]
    return RankColumns(
        np.take_along_axis(scores, order, 1).sum(0, dtype=np.float64),
        np.take_along_axis(cost, order, 1).sum(0, dtype=np.float64),
    )


def allocate(layers: Sequence[RankColumns], target: float, *, floor: float = 0.5, tolerance: float = inf) -> list[int]:
    """Blocks kept per block row of each layer, so that the cost kept comes nearest to `target`.

    `floor`: no layer keeps less than this share of the blocks that a uniform allocation gives it, and never less than
    one. Where the floor forbids the target, the least that the floor allows is returned. `tolerance`: a cost further
    than this from the target, as wide rank columns leave it, is brought nearer with columns of other layers.
    """
    total = sum(float(layer.cost.sum()) for layer in layers)
    uniform = min(1.0, target / total) if total else 1.0
    least = [max(1, min(len(layer.cost), ceil(floor * uniform * len(layer.cost)))) for layer in layers]
    owner: list[int] = []
    position: list[int] = []
    ratio: list[float] = []
    freed: list[float] = []
    for number, layer in enumerate(layers):
        removable = len(layer.cost) - least[number]
        # Partly padded blocks free less; the running maximum keeps the removed columns a prefix all the same.
        worth = np.maximum.accumulate(layer.saliency / np.maximum(layer.cost, 1e-12))
        owner += [number] * removable
        position += range(removable)
        ratio += worth[:removable].tolist()
        freed += layer.cost[:removable].tolist()
    order = np.lexsort((position, ratio))
    kept_after = total - np.concatenate([[0.0], np.cumsum(np.asarray(freed)[order])]) if freed else np.array([total])
    removed = int(np.argmin(np.abs(kept_after - target)))
    gone = np.bincount(np.asarray(owner, int)[order[:removed]], minlength=len(layers)) if removed else [0] * len(layers)
    keep = [len(layer.cost) - int(count) for layer, count in zip(layers, gone, strict=True)]
    return _settle(layers, keep, least, float(kept_after[removed]) - target, tolerance)


def _settle(
    layers: Sequence[RankColumns], keep: Sequence[int], least: Sequence[int], excess: float, tolerance: float
) -> list[int]:
    """Remove or restore one rank column at a time while that brings the `excess` of kept cost nearer to zero."""
    settled = list(keep)
    while abs(excess) > tolerance:
        step = -1 if excess > 0 else 1
        moves = []
        for number, layer in enumerate(layers):
            after = settled[number] + step
            if least[number] <= after <= len(layer.cost):
                moved = float(layer.cost[len(layer.cost) - max(settled[number], after)])
                moves.append((abs(excess + step * moved), number, moved))
        distance, number, moved = min(moves, default=(inf, 0, 0.0))
        if distance >= abs(excess):
            break
        settled[number] += step
        excess += step * moved
    return settled
