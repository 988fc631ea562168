"""Operators that change the shape or order of axes and leave the elements as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host


def shape_of(node: Node, x: Tensor) -> Host:
    start, end = node.integer("start", 0), node.attrs.get("end")
    return Host(tuple(x.shape[start : None if end is None else int(end)]), 1, torch.int64)


def size_of(node: Node, x: Tensor) -> Host:
    return Host((x.numel(),), 0, torch.int64)


def reshape(node: Node, x: Tensor, shape: Host) -> Tensor:
    wanted = list(shape.values)
    if not node.integer("allowzero", 0):
        wanted = [x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    rows = 1
    for length in x.shape[:axis]:
        rows *= length
    return (
        x.reshape(rows, -1) if x.numel() else x.reshape(rows, x.numel() // rows if rows else _product(x.shape[axis:]))
    )


def _product(lengths: Sequence[int]) -> int:
    result = 1
    for length in lengths:
        result *= length
    return result


def squeeze(node: Node, x: Tensor, axes: Host | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    chosen = {int(a) % x.ndim for a in axes.values}
    if any(x.shape[a] != 1 for a in chosen):
        raise node.refusal(f"it squeezes axes {sorted(chosen)} of shape {tuple(x.shape)}")
    return x.reshape([n for axis, n in enumerate(x.shape) if axis not in chosen])


def unsqueeze(node: Node, x: Tensor, axes: Host) -> Tensor:
    rank = x.ndim + len(axes.values)
    for axis in sorted(int(a) % rank for a in axes.values):
        x = x.unsqueeze(axis)
    return x


def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.integers("perm", tuple(reversed(range(x.ndim)))))


def expand(node: Node, x: Tensor, shape: Host) -> Tensor:
    """Broadcast both ways: a 1 in `shape` keeps the input's length."""
    wanted = list(shape.values)
    own = [1] * (len(wanted) - x.ndim) + list(x.shape)
    wanted = [1] * (len(own) - len(wanted)) + wanted
    return x.expand([n if w == 1 else w for n, w in zip(own, wanted, strict=True)])


def tile(node: Node, x: Tensor, repeats: Host) -> Tensor:
    return x.repeat([int(r) for r in repeats.values])


def concat(node: Node, *tensors: Tensor) -> Tensor:
    return torch.cat(tensors, node.integer("axis", 0))


def split(node: Node, x: Tensor, lengths: Host | None = None) -> list[Tensor]:
    axis = node.integer("axis", 0)
    if lengths is not None:
        return list(torch.split(x, [int(n) for n in lengths.values], axis))
    parts = node.integer("num_outputs", len(node.outputs))
    length = -(-x.shape[axis] // parts)
    sizes = [min(length, x.shape[axis] - length * part) for part in range(parts)]
    if min(sizes) < 0:
        raise node.refusal(f"axis {axis} of length {x.shape[axis]} into {parts} parts")
    return list(torch.split(x, sizes, axis))


def depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node.integer("blocksize", 1)
    batch, channels, height, width = x.shape
    mode = node.text("mode", "DCR")
    if mode == "DCR":
        y = x.reshape(batch, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    elif mode == "CRD":
        y = x.reshape(batch, channels // block**2, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        raise node.refusal(f"mode={mode}")
    return y.reshape(batch, channels // block**2, height * block, width * block)


def space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node.integer("blocksize", 1)
    batch, channels, height, width = x.shape
    y = x.reshape(batch, channels, height // block, block, width // block, block)
    mode = node.text("mode", "DCR")
    if mode == "DCR":
        y = y.permute(0, 3, 5, 1, 2, 4)
    elif mode == "CRD":
        y = y.permute(0, 1, 3, 5, 2, 4)
    else:
        raise node.refusal(f"mode={mode}")
    return y.reshape(batch, channels * block**2, height // block, width // block)


def identity(node: Node, x: Tensor) -> Tensor:
    return x


SHAPE = {
    "Shape": Operator(shape_of),
    "Size": Operator(size_of),
    "Reshape": Operator(reshape, host=(1,)),
    "Flatten": Operator(flatten),
    "Squeeze": Operator(squeeze, host=(1,)),
    "Unsqueeze": Operator(unsqueeze, host=(1,)),
    "Transpose": Operator(transpose),
    "Expand": Operator(expand, host=(1,)),
    "Tile": Operator(tile, host=(1,)),
    "Concat": Operator(concat),
    "Split": Operator(split, host=(1,)),
    "DepthToSpace": Operator(depth_to_space),
    "SpaceToDepth": Operator(space_to_depth),
    "Identity": Operator(identity),
}
