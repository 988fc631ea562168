"""Reductions over axes, given as an attribute (older opsets) or as an input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _reduce(function: Reduction, node: Node, x: Tensor, axes: Host | None = None) -> Tensor:
    chosen = axes.values if axes is not None else node.attrs.get("axes", ())
    if not chosen and node.integer("noop_with_empty_axes", 0):
        if function in (_l1, _l2, _log_sum, _log_sum_exp, _sum_square):
            # The pointwise part still applies: reduce over an axis of length one.
            return function(x.unsqueeze(0), (0,), False)
        return x
    dims = tuple(int(a) % x.ndim for a in chosen) if chosen else tuple(range(x.ndim))
    if not dims:  # a scalar
        return function(x.reshape(1), (0,), False)
    return function(x, dims, bool(node.integer("keepdims", 1)))


def _mean(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.mean(dims, keepdim=keep) if x.is_floating_point() else _sum(x, dims, keep) // _count(x, dims)


def _count(x: Tensor, dims: tuple[int, ...]) -> int:
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return count


def _sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(dims, keepdim=keep, dtype=None if x.is_floating_point() else x.dtype)


def _max(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.any(dims, keepdim=keep) if x.dtype == torch.bool else _extreme(x, dims, keep, largest=True)


def _min(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.all(dims, keepdim=keep) if x.dtype == torch.bool else _extreme(x, dims, keep, largest=False)


def _extreme(x: Tensor, dims: tuple[int, ...], keep: bool, *, largest: bool) -> Tensor:
    if _count(x, dims) == 0:  # the neutral element, which torch refuses to give
        shape = [1 if axis in dims else n for axis, n in enumerate(x.shape) if keep or axis not in dims]
        return x.new_full(shape, float("-inf") if largest else float("inf"))
    return x.amax(dims, keepdim=keep) if largest else x.amin(dims, keepdim=keep)


def _prod(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), dims, keep)


def _l2(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, 2, dims, keepdim=keep)
    return norm


def _log_sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x, dims, keep).log()


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, dims, keepdim=keep)


def _sum_square(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.square(), dims, keep)


def arg_extreme(node: Node, x: Tensor) -> Tensor:
    axis, keep = node.integer("axis", 0), bool(node.integer("keepdims", 1))
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    if not node.integer("select_last_index", 0):
        return _first_extreme(function, x, axis, keep)
    return x.shape[axis] - 1 - _first_extreme(function, x.flip(axis), axis, keep)


def _first_extreme(function: Callable[..., Tensor], x: Tensor, axis: int, keep: bool) -> Tensor:
    return function(x, dim=axis, keepdim=keep)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceMin": _min,
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_square,
}

REDUCE = {
    **{op: Operator(partial(_reduce, function), host=(1,)) for op, function in _REDUCTIONS.items()},
    "ArgMax": Operator(arg_extreme),
    "ArgMin": Operator(arg_extreme),
}
