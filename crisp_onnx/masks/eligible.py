"""Which weight layers may become sparse under a pattern, and why the others stay dense."""

from __future__ import annotations

from collections.abc import Mapping

from crisp_onnx.format.pattern import Pattern
from crisp_onnx.model import WeightLayer


def reason_to_stay_dense(layer: WeightLayer, pattern: Pattern, *, left: Mapping[str, str] | None = None) -> str:
    """A sentence, or an empty string for a layer that may become sparse. `left`: reasons by the name of a layer."""
    if layer.obstacle:
        return layer.obstacle
    if left and layer.name in left:
        return left[layer.name]
    rows, columns = layer.shape[0], layer.shape[1] * layer.shape[2] * layer.shape[3]
    if rows < pattern.block or columns < pattern.block:
        return f"smaller than one block: {rows} x {columns} against {pattern.block} x {pattern.block}"
    return ""
