"""Operators that pick elements by position: slices, gathers, selections."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host


def slice_(
    node: Node, x: Tensor, starts: Host, ends: Host, axes: Host | None = None, steps: Host | None = None
) -> Tensor:
    chosen = axes.values if axes is not None else tuple(range(len(starts.values)))
    strides = steps.values if steps is not None else (1,) * len(starts.values)
    axes_from_front = [int(a) % x.ndim for a in chosen]
    for start, end, axis, step in zip(starts.values, ends.values, axes_from_front, strides, strict=True):
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, end, step),)]
        else:
            x = x.index_select(axis, _backwards(start, end, step, x.shape[axis]).to(x.device))
    return x


def _backwards(start: int, end: int, step: int, length: int) -> Tensor:
    """Positions of a slice with a negative step; unlike Python's, one that starts before the first takes the first."""
    first = min(max(start + length if start < 0 else start, 0), length - 1)
    last = min(max(end + length if end < 0 else end, -1), length - 1)
    return torch.arange(first, min(last, first), step)


def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.integer("axis", 0) % x.ndim
    rows = _wrapped(indices, x.shape[axis]).reshape(-1)
    picked = x.index_select(axis, rows)
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.integer("axis", 0)
    return x.gather(axis, _wrapped(indices, x.shape[axis]))


def _wrapped(indices: Tensor, length: int) -> Tensor:
    """Indices with negative ones counted from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + length, indices)


def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


INDEX = {
    "Slice": Operator(slice_, host=(1, 2, 3, 4)),
    "Gather": Operator(gather),
    "GatherElements": Operator(gather_elements),
    "Where": Operator(where),
}
