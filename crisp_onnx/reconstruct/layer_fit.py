"""Fit one layer: a ridge regression for each group of rows that share a support, the ridge chosen by unseen rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.reconstruct.evidence import Evidence

RIDGES = (0.001, 0.01, 0.1)
"""Shares of the mean square of the layer's inputs."""


@dataclass(frozen=True, eq=False)
class Fit:
    """`weight` (Cout, K) in float64, zeros outside the support; the errors before and after; the ridge, None for none.

    An error is the RMS of what the outputs miss, over the RMS of the dense outputs about their means.
    """

    weight: Tensor
    before: float
    after: float
    ridge: float | None


def best_fit(
    known: Evidence, judged: tuple[Tensor, Tensor], old: Tensor, support: Tensor, group: int,
    ridges: Sequence[float] = RIDGES,
) -> Fit:  # fmt: skip
    """The weights of the ridge that is best on the `judged` rows (X, Y), or the old ones where none is better.

    Args:
        old: (Cout, K) in float64, zeros outside the support.
        support: (Cout, K) bool; each `group` of rows that follow each other have one support.
    """
    before = output_error(known, old, judged)
    best = Fit(old, before, before, None)
    if known.scale <= 0:
        return best
    candidates = [torch.zeros_like(old) for _ in ridges]
    for top in range(0, len(old), group):
        rows, columns = slice(top, top + group), support[top].nonzero().flatten()
        if len(columns) == 0:
            continue
        found = known.solutions(columns, rows, old[rows, columns], [share * known.scale for share in ridges])
        for candidate, weight in zip(candidates, found, strict=True):
            candidate[rows, columns] = weight
    for ridge, candidate in zip(ridges, candidates, strict=True):
        after = output_error(known, candidate, judged)
        if after < best.after:
            best = Fit(candidate, before, after, ridge)
    return best


def shift_of(known: Evidence, weight: Tensor) -> Tensor:
    """(Cout,): what the outputs of `weight` miss in the mean."""
    return known.mean_y - weight @ known.mean_x


def output_error(known: Evidence, weight: Tensor, judged: tuple[Tensor, Tensor]) -> float:
    """RMS of `X W^T + shift - Y` over that of Y about its means; 0 where Y does not change at all."""
    x, y = judged
    missed = (x @ weight.float().T + shift_of(known, weight).float() - y).square().sum()
    whole = (y - y.mean(0)).square().sum()
    return float((missed / whole).sqrt()) if whole > 0 else 0.0
