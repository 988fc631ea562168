"""Operators that treat every position alike: the same channels go in and come out, under broadcasting."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.groups.ties import NodeTies


def elementwise(node: gs.Node, ties: NodeTies) -> None:
    """Any number of operands, broadcast to the output; an operand of one index along an axis says nothing there."""
    operands = [tensor for tensor in node.inputs if not tensor.is_empty()]
    for y in node.outputs:
        rank = len(ties.shape(y))
        for back in range(1, rank + 1):
            ranks = ((tensor, len(ties.shape(tensor))) for tensor in operands)
            ties.tie((y, rank - back), *((tensor, own - back) for tensor, own in ranks if own >= back))


def first_operand(node: gs.Node, ties: NodeTies) -> None:
    """Only the first input carries channels; the others are numbers for all of them (bounds, a ratio)."""
    x = node.inputs[0]
    for other in node.inputs[1:]:
        if not other.is_empty() and max(ties.shape(other), default=1) > 1:
            return
    for y in node.outputs:
        for axis in range(len(ties.shape(x))):
            ties.tie((x, axis), (y, axis))


def scaled(node: gs.Node, ties: NodeTies) -> None:
    """QuantizeLinear and DequantizeLinear: scale and zero point for all, or one of each along `axis`."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    along = int(node.attrs.get("axis", 1)) % max(rank, 1)
    scales = [tensor for tensor in node.inputs[1:] if not tensor.is_empty()]
    if any(ties.shape(scale) not in ((), (1,), (ties.shape(x)[along],)) for scale in scales):
        return
    for axis in range(rank):
        ties.tie((x, axis), (y, axis), *((scale, 0) for scale in scales if axis == along and ties.shape(scale)))
