"""Which weight layers may become sparse under a pattern, and why the others stay dense."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.model import WeightLayer


def reason_to_stay_dense(
    layer: WeightLayer, pattern: Pattern, *, keep_dense: Sequence[str] = (), left: Mapping[str, str] | None = None
) -> str:
    """A sentence, or an empty string for a layer that may become sparse. `left`: reasons by the name of a layer."""
    if layer.obstacle:
        return layer.obstacle
    if left and layer.name in left:
        return left[layer.name]
    rows, columns = layer.shape[0], layer.shape[1] * layer.shape[2] * layer.shape[3]
    if rows < pattern.block or columns < pattern.block:
        return f"smaller than one block: {rows} x {columns} against {pattern.block} x {pattern.block}"
    for expression in keep_dense:
        if re.search(expression, layer.name) or re.search(expression, layer.weight):
            return f"kept dense by the user ({expression})"
    return ""


def check_keep_dense(expressions: Sequence[str], layers: Sequence[WeightLayer]) -> None:
    """Refuse an expression that is malformed or fits no layer: a typing error would otherwise pass unseen.

    Raises:
        CrispError: names the expression and the nearest layer names.
    """
    names = [name for layer in layers for name in (layer.name, layer.weight)]
    for expression in expressions:
        try:
            fits = any(re.search(expression, name) for name in names)
        except re.error as error:
            raise CrispError(f"--keep-dense {expression!r} is not a regular expression: {error}.") from error
        if not fits:
            raise CrispError(
                f"--keep-dense {expression!r} fits none of the {len(layers)} weight layers."
                f"{nearest(expression, names)} `crisp-onnx check` lists them all."
            )
