"""From the values of a tensor to its 256 bytes: by their range, by a percentile, or by the least squared error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from crisp_onnx.format.node import Grid
from crisp_onnx.quantize.calibration import Seen

STEPS = 255
PERCENTILE = 99.99
TRIED = 40
LEAST_STEP = 2.0**-20
"""ONNX Runtime takes bounds that lie within 1.2e-7 of a grid's ends for the ends themselves and drops the Clip before a
QuantizeLinear (ClipQuantFusion, float32's epsilon): on a finer grid than this that would change bytes."""


def grid_of(low: float, high: float) -> Grid:
    """The grid that reaches from `low` to `high`, in which zero is exactly zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / STEPS, LEAST_STEP))
    return Grid(float(scale), int(np.clip(np.rint(-low / float(scale)), 0, STEPS)))


def by_range(seen: Seen) -> Grid:
    """From the least to the largest value seen."""
    return grid_of(seen.low, seen.high)


def by_percentile(seen: Seen) -> Grid:
    """Without the outermost 0.01 % on both sides together."""
    total = np.cumsum(seen.counts) / max(1, seen.counts.sum())
    outside = (1 - PERCENTILE / 100) / 2
    last = len(total) - 1
    low, high = (min(int(np.searchsorted(total, share)), last) for share in (outside, 1 - outside))
    return grid_of(float(seen.centres[low]), float(seen.centres[high]))


def by_error(seen: Seen) -> Grid:
    """The ends, each moved inward in turn, by which rounding and cutting off have the least squared error."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    shares = np.linspace(1 / TRIED, 1, TRIED)
    for _ in range(2):
        high = min((high * share for share in shares), key=lambda end: _error(seen, low, end), default=high)
        low = min((low * share for share in shares), key=lambda end: _error(seen, end, high), default=low)
    return grid_of(low, high)


def _error(seen: Seen, low: float, high: float) -> float:
    grid = grid_of(low, high)
    centres = seen.centres
    ends = (-grid.zero * grid.scale, (STEPS - grid.zero) * grid.scale)
    outside = centres - np.clip(centres, *ends)
    inside = np.where(outside == 0, grid.scale**2 / 12, 0)
    inside[np.abs(centres).argmin()] = 0  # what an activation has cut to zero is exactly zero
    return float((seen.counts * (outside**2 + inside)).sum())


METHODS: Mapping[str, Callable[[Seen], Grid]] = MappingProxyType(
    {"error": by_error, "range": by_range, "percentile": by_percentile}
)
"""By name, the one that wins a tie first."""


def grids_by(method: str, seen: Mapping[str, Seen]) -> dict[str, Grid]:
    """The grid of every tensor."""
    return {name: METHODS[method](values) for name, values in seen.items()}
