"""Fit one layer: a ridge regression for each group of rows that share a support, the ridge chosen by unseen rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.reconstruct.evidence import Evidence, Spread

RIDGES = (0.001, 0.01, 0.1)
"""Shares of the mean square of the layer's inputs."""


@dataclass(frozen=True)
class LayerFit:
    """How a layer was re-fitted, on images that the fit has not seen.

    `before`, `after`: RMS of what its outputs miss, over the RMS of what they should be about their means.
    `ridge`: as a share of the mean square of its inputs; None where the weights stayed as they were.
    """

    layer: str
    before: float
    after: float
    ridge: float | None


@dataclass(frozen=True, eq=False)
class Fit:
    """`weight` (Cout, K) in float64, zeros outside the support; errors and ridge as in `LayerFit`.

    `given`: of the outputs of that weight, without any bias; `wanted`: of what they should be.
    """

    weight: Tensor
    before: float
    after: float
    ridge: float | None
    given: Spread
    wanted: Spread


def best_fit(
    known: Evidence, judged: tuple[Tensor, Tensor], old: Tensor, support: Tensor, group: int,
    ridges: Sequence[float] = RIDGES,
) -> Fit:  # fmt: skip
    """The weights of the ridge that is best on the `judged` rows (X, Y), or the old ones where none is better.

    Args:
        old: (Cout, K) in float64, zeros outside the support.
        support: (Cout, K) bool; each `group` of rows that follow each other have one support.
    """
    best, chosen = old, None
    before = after = output_error(known, old, judged)
    if known.scale > 0:
        for ridge, weight in zip(ridges, solutions(known, old, support, group, ridges), strict=True):
            error = output_error(known, weight, judged)
            if error < after:
                best, after, chosen = weight, error, ridge
    given, wanted = Spread(best @ known.mean_x, known.spread(best)), Spread(known.mean_y, known.spread_y)
    return Fit(best, before, after, chosen, given, wanted)


def shift_of(known: Evidence, weight: Tensor) -> Tensor:
    """(Cout,): what the outputs of `weight` miss in the mean."""
    return known.mean_y - weight @ known.mean_x


def output_error(known: Evidence, weight: Tensor, judged: tuple[Tensor, Tensor]) -> float:
    """RMS of `X W^T + shift - Y` over that of Y about its means; 0 where Y does not change at all."""
    x, y = judged
    y = y.double()  # squares of what float32 holds may be more than it holds
    missed = ((x @ weight.float().T + shift_of(known, weight).float()).double() - y).square().sum()
    whole = (y - y.mean(0)).square().sum()
    return float((missed / whole).sqrt()) if whole > 0 else 0.0


def solutions(known: Evidence, old: Tensor, support: Tensor, group: int, ridges: Sequence[float]) -> list[Tensor]:
    """(Cout, K) for each ridge."""
    solved = [torch.zeros_like(old) for _ in ridges]
    for top in range(0, len(old), group):
        rows, columns = slice(top, top + group), support[top].nonzero().flatten()
        if len(columns) == 0:
            continue
        found = known.solutions(columns, rows, old[rows, columns], [share * known.scale for share in ridges])
        for whole, weight in zip(solved, found, strict=True):
            whole[rows, columns] = weight
    return solved
