"""Operators that build or pick by rank, position or class: TopK, OneHot, Trilu, CumSum, GatherND."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host


def top_k(node: Node, x: Tensor, k: Host) -> tuple[Tensor, Tensor]:
    if not node.integer("sorted", 1):
        raise node.refusal("sorted=0, whose order is not defined")
    axis = node.integer("axis", -1)
    # A stable sort gives equal elements in the order of their positions, as the standard asks.
    values, indices = torch.sort(x, dim=axis, descending=bool(node.integer("largest", 1)), stable=True)
    count = int(k.values[0])
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


def one_hot(node: Node, indices: Tensor, depth: Host, values: Tensor) -> Tensor:
    classes = int(depth.values[0])
    whole = indices.long()
    wrapped = torch.where(whole < 0, whole + classes, whole)
    # A class out of range has no element switched on: it falls into an extra one that is cut off.
    inside = torch.where((wrapped < 0) | (wrapped >= classes), classes, wrapped)
    on = functional.one_hot(inside, classes + 1)[..., :classes].bool()
    rank = indices.ndim + 1
    return torch.where(on, values[1], values[0]).movedim(-1, node.integer("axis", -1) % rank)


def trilu(node: Node, x: Tensor, k: Host | None = None) -> Tensor:
    diagonal = int(k.values[0]) if k is not None else 0
    return torch.triu(x, diagonal) if node.integer("upper", 1) else torch.tril(x, diagonal)


def cumulative_sum(node: Node, x: Tensor, axis: Host) -> Tensor:
    dim = int(axis.values[0])
    x = x.flip(dim) if node.integer("reverse", 0) else x
    y = x.cumsum(dim, dtype=x.dtype)
    y = y - x if node.integer("exclusive", 0) else y
    return y.flip(dim) if node.integer("reverse", 0) else y


def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    if node.integer("batch_dims", 0):
        raise node.refusal(f"batch_dims={node.integer('batch_dims', 0)}")
    return x[tuple(indices.long().unbind(-1))]


SELECT = {
    "CumSum": Operator(cumulative_sum, host=(1,)),
    "GatherND": Operator(gather_nd),
    "OneHot": Operator(one_hot, host=(1,)),
    "TopK": Operator(top_k, host=(1,)),
    "Trilu": Operator(trilu, host=(1,)),
}
