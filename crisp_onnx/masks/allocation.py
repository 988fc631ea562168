"""Share the budget among layers: remove rank columns, cheapest saliency per unit freed first, above a floor.

Rank column j of a layer is the j-th worst block of every block row, so removing whole rank columns keeps rows
balanced. Its value is the saliency it holds, its cost the weights (or MACs) it frees: greedy by value over cost
(CRISP, arXiv 2311.14272; the knapsack's relaxed optimum). The floor keeps a global threshold from starving layers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple

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


def allocate(
    layers: Sequence[RankColumns], target: float, *, floor: float = 0.5, tolerance: float = inf, paired: bool = False
) -> list[int]:
    """Blocks kept per block row of each layer, so that the cost kept comes nearest to `target`.

    `floor`: no layer keeps less than this share of the blocks that a uniform allocation gives it, and never less than
    one. Where the floor forbids the target, the least that the floor allows is returned. `tolerance`: a cost further
    than this from the target, as wide rank columns leave it, is brought nearer with columns of other layers; `paired`:
    with those of two layers at once too.
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
    return _settle(layers, keep, least, float(kept_after[removed]) - target, tolerance, paired)


def _settle(
    layers: Sequence[RankColumns],
    keep: Sequence[int],
    least: Sequence[int],
    excess: float,
    tolerance: float,
    paired: bool,
) -> list[int]:
    """Remove or restore one rank column at a time, or change one of two layers each, while the `excess` falls by it."""
    settled = list(keep)
    while abs(excess) > tolerance:
        steps = _steps(layers, settled, least)
        toward = [one for one in steps if one.moved * excess < 0]
        alone: list[tuple[float, tuple[_Step, ...]]] = [(abs(excess + one.moved), (one,)) for one in toward]
        best = min(alone, default=None, key=lambda found: found[0])
        if paired and (best is None or best[0] >= abs(excess)):
            best = _pair(steps, excess)
        if best is None or best[0] >= abs(excess) * (1 - 1e-9):
            break
        for step in best[1]:
            settled[step.layer] += step.by
            excess += step.moved
    return settled


class _Step(NamedTuple):
    """One rank column more (`by` 1) or less (-1) of a layer, and the cost kept that it adds."""

    moved: float
    layer: int
    by: int


def _steps(layers: Sequence[RankColumns], settled: Sequence[int], least: Sequence[int]) -> list[_Step]:
    found = []
    for number, layer in enumerate(layers):
        for by in (-1, 1):
            after = settled[number] + by
            if least[number] <= after <= len(layer.cost):
                found.append(_Step(by * float(layer.cost[len(layer.cost) - max(settled[number], after)]), number, by))
    return sorted(found)


def _pair(steps: Sequence[_Step], excess: float) -> tuple[float, tuple[_Step, ...]] | None:
    """The two steps of different layers after which the excess is nearest to zero, and its size then."""
    moved = [step.moved for step in steps]
    best: tuple[float, tuple[_Step, ...]] | None = None
    for step in steps:
        at = bisect_left(moved, -excess - step.moved)
        for other in steps[max(at - 2, 0) : at + 2]:
            after = abs(excess + step.moved + other.moved)
            if other.layer != step.layer and (best is None or after < best[0]):
                best = after, (step, other)
    return best
