"""Operators that pick elements by position: slices, gathers, selections."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host, Value


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
            picked = list(range(*slice(start, end, step).indices(x.shape[axis])))
            x = x.index_select(axis, torch.tensor(picked, dtype=torch.int64, device=x.device))
    return x


def gather(node: Node, x: Tensor, indices: Value | int) -> Tensor:
    axis = node.integer("axis", 0) % x.ndim
    if not isinstance(indices, Tensor):
        return x.select(axis, int(indices))  # type: ignore[arg-type]
    rows = _wrapped(indices, x.shape[axis]).reshape(-1)
    picked = x.index_select(axis, rows)
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


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
