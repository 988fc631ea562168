"""`Curve`: what a layer loses with so many of its blocks, as it was measured, in place of the saliency that goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SMALLEST = 1e-30


@dataclass(frozen=True, eq=False)
class Curve:
    """`gains` (C,): the loss that each rank column saves, the first to go first. `rest`: what is lost with all kept."""

    gains: npt.NDArray[np.float64]
    rest: float


def curve_through(blocks: Sequence[int], losses: Sequence[float], without: float, columns: int) -> Curve:
    """The curve through losses measured at some numbers of blocks per block row, `columns` the last of them.

    Powers of the number in between, then the largest convex function below, so that blocks save the less the more there
    are. `without`: the loss without any block.
    """
    counts = np.arange(1, columns + 1)
    logs = np.interp(np.log(counts), np.log(blocks), np.log(np.maximum(losses, SMALLEST)))
    loss = np.minimum.accumulate(np.concatenate([[max(without, losses[0])], np.exp(logs)]))
    slopes, at = np.empty(columns), 0
    while at < columns:
        ahead = (loss[at] - loss[at + 1 :]) / np.arange(1, columns - at + 1)
        to = at + 1 + int(np.argmax(ahead))
        slopes[at:to] = ahead[to - at - 1]
        at = to
    return Curve(slopes[::-1].copy(), float(loss[-1]))
