"""Normalisations and what else looks at all channels at once: they may change places, not always be removed.

A mean over channels stays what it is with zeros in place once some are gone: `passes/restate_norms.py` divides by as
many as before.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.ties import NodeTies

_OF_ZERO_NOTHING = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceMean")
"""Reductions whose result is the same without a channel that is zero, a mean once its count is put right."""


def per_channel(node: gs.Node, ties: NodeTies) -> None:
    """BatchNormalization and InstanceNormalization: one scale, shift, mean and variance a channel."""
    x, y = node.inputs[0], node.outputs[0]
    for axis in range(len(ties.shape(x))):
        ties.tie((x, axis), (y, axis), *((row, 0) for row in node.inputs[1:] if axis == 1))
        if node.op == "InstanceNormalization" and axis > 1 and ties.shape(x)[axis] > 1:
            ties.keep(x, axis, "its mean and variance are those of all places")


def layer_norm(node: gs.Node, ties: NodeTies) -> None:
    """Mean and variance over the last axes; scale and shift lie along them."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    first = int(node.attrs.get("axis", -1)) % rank
    rows = [row for row in node.inputs[1:] if not row.is_empty()]
    for axis in range(rank):
        back = rank - axis
        own = ((row, len(ties.shape(row)) - back) for row in rows if len(ties.shape(row)) >= back)
        ties.tie((x, axis), (y, axis), *own)
        if axis >= first and ties.shape(x)[axis] > 1 and not _written_out(node, first, rank):
            ties.keep(x, axis, "its mean and variance are those of all channels")


def _written_out(node: gs.Node, first: int, rank: int) -> bool:
    """Whether it can be written out in other operators: over one axis, in float32."""
    return first == rank - 1 and node.inputs[1].dtype == np.float32


def group_norm(node: gs.Node, ties: NodeTies) -> None:
    """Mean and variance over each of the groups: channels may change places inside one."""
    x, y = node.inputs[0], node.outputs[0]
    channels, groups = ties.shape(x)[1], int(node.attrs["num_groups"])
    rows = [row for row in node.inputs[1:] if ties.shape(row) == (channels,)]
    ties.tie((x, 1), (y, 1), *((row, 0) for row in rows))
    for axis in range(2, len(ties.shape(x))):
        ties.tie((x, axis), (y, axis))
    ties.part(x, 1, np.arange(channels) * groups // channels)
    ties.keep(x, 1, "its mean and variance are those of a group of channels")


def softmax(node: gs.Node, ties: NodeTies) -> None:
    """A share of the sum over `axis`, before opset 13 over it and all behind it."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    first = int(node.attrs.get("axis", min(1, rank - 1))) % rank
    for axis in range(rank):
        ties.tie((x, axis), (y, axis))
        if axis >= first and ties.shape(x)[axis] > 1:
            ties.keep(x, axis, "each of its results depends on all channels")


def reduction(node: gs.Node, ties: NodeTies) -> None:
    """ReduceMean and its kin: the reduced axes end here, in any order; the others go on."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    axes = _axes(node)
    if axes is None:
        return
    every = set() if node.attrs.get("noop_with_empty_axes", 0) else set(range(rank))
    reduced = {axis % rank for axis in axes} or every
    left = [axis for axis in range(rank) if axis not in reduced or node.attrs.get("keepdims", 1)]
    for axis in range(rank):
        if axis not in reduced:
            ties.tie((x, axis), (y, left.index(axis)))
            continue
        ties.ignore(x, axis)
        if node.op not in _OF_ZERO_NOTHING and ties.shape(x)[axis] > 1:
            ties.keep(x, axis, "its result is one over all channels")
    if len(node.inputs) > 1:
        ties.ignore(node.inputs[1])


def _axes(node: gs.Node) -> list[int] | None:
    """The axes that are named, none for all; None where they are computed."""
    if len(node.inputs) > 1 and not node.inputs[1].is_empty():
        named = node.inputs[1]
        return [int(axis) for axis in named.values.reshape(-1)] if isinstance(named, gs.Constant) else None
    return [int(axis) for axis in node.attrs.get("axes", ())]
