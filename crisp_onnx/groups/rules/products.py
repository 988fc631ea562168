"""Convolutions and matrix products: rows of a weight are channels that it writes, columns those that it reads."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.ties import Ints, NodeTies


def conv(node: gs.Node, ties: NodeTies) -> None:
    x, weight, y = node.inputs[0], node.inputs[1], node.outputs[0]
    rows, columns = ties.shape(weight)[:2]
    groups = int(node.attrs.get("group", 1))
    bias = _bias(node, ties, rows)
    if groups == 1:
        ties.tie((x, 1), (weight, 1))
        ties.tie((y, 1), (weight, 0), *bias)
    elif columns == 1:
        _depthwise(ties, (x, y), groups, rows // groups, bias)
        ties.tie((y, 1), (weight, 0))
    else:
        _alike(ties, x, groups, columns, (weight, 1))
        ties.tie((y, 1), (weight, 0), *bias)
        _alike(ties, y, groups, rows // groups)


def conv_transpose(node: gs.Node, ties: NodeTies) -> None:
    x, weight, y = node.inputs[0], node.inputs[1], node.outputs[0]
    rows, columns = ties.shape(weight)[:2]
    groups = int(node.attrs.get("group", 1))
    bias = _bias(node, ties, columns * groups)
    if rows == groups > 1:
        _depthwise(ties, (x, y), groups, columns, bias)
        ties.tie((x, 1), (weight, 0))
        return
    ties.tie((x, 1), (weight, 0))
    ties.tie((y, 1), *bias)
    if groups == 1:
        ties.tie((y, 1), (weight, 1))
    else:
        _alike(ties, x, groups, rows // groups)
        _alike(ties, y, groups, columns, (weight, 1))


def gemm(node: gs.Node, ties: NodeTies) -> None:
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    inner_a = 0 if node.attrs.get("transA", 0) else 1
    inner_b = 1 if node.attrs.get("transB", 0) else 0
    ties.tie((a, inner_a), (b, inner_b))
    added = [] if len(node.inputs) < 3 or node.inputs[2].is_empty() else [node.inputs[2]]
    for axis, source in ((0, (a, 1 - inner_a)), (1, (b, 1 - inner_b))):
        ties.tie(source, (y, axis), *((c, len(ties.shape(c)) - 2 + axis) for c in added if _has(ties, c, axis)))


def matmul(node: gs.Node, ties: NodeTies) -> None:
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    rank_a, rank_b, rank_y = (len(ties.shape(tensor)) for tensor in (a, b, y))
    if min(rank_a, rank_b) < 2:
        return
    ties.tie((a, rank_a - 1), (b, rank_b - 2))
    ties.tie((a, rank_a - 2), (y, rank_y - 2))
    ties.tie((b, rank_b - 1), (y, rank_y - 1))
    for back in range(3, rank_y + 1):
        sides = [(tensor, rank - back) for tensor, rank in ((a, rank_a), (b, rank_b)) if rank >= back]
        ties.tie(*sides, (y, rank_y - back))


def _depthwise(
    ties: NodeTies, tensors: tuple[gs.Tensor, gs.Tensor], groups: int, copies: int, bias: list[tuple[gs.Tensor, int]]
) -> None:
    """Channel c of `x` becomes the channels c*copies, ... of `y`: they live and die together."""
    x, y = tensors
    places = np.arange(groups * copies)
    ties.tie((x, 1, places // copies), (y, 1, places), *((side, 0, places) for side, _ in bias))


def _alike(
    ties: NodeTies, tensor: gs.Tensor, groups: int, width: int, weight: tuple[gs.Tensor, int] | None = None
) -> None:
    """Channel i of every group is one channel, as all groups must keep one width; `weight` has it at index i."""
    places: Ints = np.arange(groups * width)
    ties.tie((tensor, 1, places), (tensor, 1, places % width))
    if weight is not None:
        ties.tie((tensor, 1, np.arange(width)), (*weight, np.arange(width)))


def _bias(node: gs.Node, ties: NodeTies, channels: int) -> list[tuple[gs.Tensor, int]]:
    given = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    return [(node.inputs[2], 0)] if given and ties.shape(node.inputs[2]) == (channels,) else []


def _has(ties: NodeTies, tensor: gs.Tensor, axis: int) -> bool:
    """Whether an operand that is broadcast to two axes has this one."""
    return len(ties.shape(tensor)) >= 2 - axis
