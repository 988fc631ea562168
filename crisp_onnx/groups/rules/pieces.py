"""Operators that join, cut and pad axes: channels keep their order and get other indices."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.rules.stated import stated_at
from crisp_onnx.groups.ties import Ints, NodeTies


def concat(node: gs.Node, ties: NodeTies) -> None:
    y = node.outputs[0]
    rank = len(ties.shape(y))
    along = int(node.attrs["axis"]) % rank
    for axis in range(rank):
        if axis != along:
            ties.tie((y, axis), *((tensor, axis) for tensor in node.inputs))
    start = 0
    for tensor in node.inputs:
        size = ties.shape(tensor)[along]
        ties.tie((tensor, along, np.arange(size)), (y, along, np.arange(start, start + size)))
        start += size


def split(node: gs.Node, ties: NodeTies) -> None:
    x = node.inputs[0]
    rank = len(ties.shape(x))
    along = int(node.attrs.get("axis", 0)) % rank
    start = 0
    if any(y.is_empty() for y in node.outputs):
        return
    for y in node.outputs:
        size = ties.shape(y)[along]
        _cut(ties, x, y, along, np.arange(start, start + size))
        start += size
    if len(node.inputs) > 1 and not node.inputs[1].is_empty():
        ties.ignore(node.inputs[1])


def slice_(node: gs.Node, ties: NodeTies) -> None:
    """Stored starts, ends and steps; an index that is cut off is one more channel that nobody reads here."""
    x, y = node.inputs[0], node.outputs[0]
    told = [tensor for tensor in node.inputs[1:] if not tensor.is_empty()]
    if not all(isinstance(tensor, gs.Constant) for tensor in told) or len(told) < 2:
        ties.reason = "where it cuts is computed, not stored"
        return
    rank = len(ties.shape(x))
    starts, ends = (tensor.values.reshape(-1).tolist() for tensor in told[:2])
    given = [None if tensor.is_empty() else tensor.values.reshape(-1).tolist() for tensor in node.inputs[3:5]]
    axes = (given[0] if given else None) or list(range(len(starts)))
    steps = (given[1] if len(given) > 1 else None) or [1] * len(starts)
    cuts = {axis % rank: (start, end, step) for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)}
    for axis in range(rank):
        size = ties.shape(x)[axis]
        taken = np.arange(size)[slice(*cuts[axis])] if axis in cuts else np.arange(size)
        if len(taken) != ties.shape(y)[axis]:
            continue
        ties.tie((x, axis, taken), (y, axis, np.arange(len(taken))))
        ties.ignore(x, axis)
    for tensor in told:
        ties.ignore(tensor)


def gather(node: gs.Node, ties: NodeTies) -> None:
    """Stored indices: one takes a place away from an axis, several reorder or thin it."""
    x, wanted, y = node.inputs[0], node.inputs[1], node.outputs[0]
    rank = len(ties.shape(x))
    along = int(node.attrs.get("axis", 0)) % rank
    new = len(ties.shape(wanted))
    for axis in range(rank):
        if axis != along:
            ties.tie((x, axis), (y, axis if axis < along else axis + new - 1))
    for axis in range(new):
        ties.ignore(wanted, axis)
    if not isinstance(wanted, gs.Constant) or new > 1:
        ties.reason = "which channels it takes is not a stored list"
        return
    taken = np.asarray(wanted.values, np.int64).reshape(-1) % ties.shape(x)[along]
    if new == 0:
        ties.reason = "it takes one of them by its place"
        return
    ties.tie((x, along, taken), (y, along, np.arange(len(taken))))
    ties.ignore(x, along)


def pad(node: gs.Node, ties: NodeTies) -> None:
    """Constant padding: what is added is alike, and where channels are cut off the axis is bound."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    told = [tensor for tensor in node.inputs[1:] if not tensor.is_empty()]
    if not told or not isinstance(told[0], gs.Constant) or len(node.inputs) > 3:
        ties.reason = "where it pads is computed, or told axis by axis"
        return
    for tensor in told:
        ties.ignore(tensor)
    pads = told[0].values.reshape(-1)
    for axis in range(rank):
        before, after, size = int(pads[axis]), int(pads[axis + rank]), ties.shape(x)[axis]
        alike = node.attrs.get("mode", "constant") == "constant" and axis == 1
        if min(before, after) < 0 or (max(before, after) > 0 and not alike):
            continue
        ties.tie((x, axis), (y, axis, np.arange(before, before + size)))
        if before or after:
            ties.ignore(y, axis)
            ties.keep(y, axis, "it adds channels to them")


def expand(node: gs.Node, ties: NodeTies) -> None:
    """Repeats along axes of one index; what it repeats is alike in every place."""
    x, y = node.inputs[0], node.outputs[0]
    rank, own = len(ties.shape(y)), len(ties.shape(x))
    for back in range(1, rank + 1):
        size = ties.shape(y)[rank - back]
        if back <= own and ties.shape(x)[own - back] == size:
            ties.tie((x, own - back), (y, rank - back))
        elif size > 1:
            ties.ignore(y, rank - back)
        if size > 1 and stated_at(node.inputs[1], rank - back) is None:
            ties.keep(y, rank - back, "the shape that it gives is computed, not stored")
    ties.ignore(node.inputs[1])


def transpose(node: gs.Node, ties: NodeTies) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    for place, axis in enumerate(node.attrs.get("perm", range(rank - 1, -1, -1))):
        ties.tie((x, int(axis)), (y, place))


def _cut(ties: NodeTies, x: gs.Tensor, y: gs.Tensor, along: int, taken: Ints) -> None:
    for axis in range(len(ties.shape(x))):
        if axis == along:
            ties.tie((x, axis, taken), (y, axis, np.arange(len(taken))))
        else:
            ties.tie((x, axis), (y, axis))
