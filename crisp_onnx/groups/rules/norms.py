"""Normalisations and what else looks at all channels at once: they may change places, not always be removed.

What a norm divides by stays what it is with zeros in place once some are gone: see `passes/restate_norms.py`.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.ties import NodeTies


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
    """A share of the sum over one axis, as since opset 13, which every graph here has at least."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    along = int(node.attrs.get("axis", -1)) % rank
    for axis in range(rank):
        ties.tie((x, axis), (y, axis))
    if ties.shape(x)[along] > 1:
        ties.keep(x, along, "each of its results depends on all channels")
