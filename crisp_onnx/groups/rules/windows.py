"""Pooling and resizing: channels go through one by one, positions are bound."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.rules.stated import stated_at
from crisp_onnx.groups.ties import NodeTies


def pool(node: gs.Node, ties: NodeTies) -> None:
    """A window slides over every channel alone."""
    for axis in (0, 1):
        ties.tie((node.inputs[0], axis), (node.outputs[0], axis))


def global_pool(node: gs.Node, ties: NodeTies) -> None:
    """All positions of a channel become one, in whatever order they come."""
    x = node.inputs[0]
    pool(node, ties)
    for axis in range(2, len(ties.shape(x))):
        ties.ignore(x, axis)
        if ties.shape(x)[axis] > 1:
            ties.keep(x, axis, "its result is one over all places")


def resize(node: gs.Node, ties: NodeTies) -> None:
    """Axes that keep their size by a scale of exactly one go through."""
    x, y = node.inputs[0], node.outputs[0]
    for told in node.inputs[1:]:
        if not told.is_empty():
            ties.ignore(told)
    scales = node.inputs[-1] if len(node.inputs) in (2, 3) else None
    for axis in (0, 1):
        exact = scales is None or (isinstance(scales, gs.Constant) and np.asarray(scales.values)[axis] == 1)
        if exact and ties.shape(x)[axis] == ties.shape(y)[axis] and "axes" not in node.attrs:
            ties.tie((x, axis), (y, axis))
            if scales is None and axis and stated_at(node.inputs[3], axis) is None:
                ties.keep(y, axis, "the size that it gives is computed, not stored")
    if scales is not None and not isinstance(scales, gs.Constant):
        ties.reason = "its scales are computed, not stored"
