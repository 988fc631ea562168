"""Pooling: MaxPool, AveragePool, LpPool and the global ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.handlers.windows import Windows, extend, windows
from crisp_onnx.bridge.node import Node, Operator

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def max_pool(node: Node, x: Tensor) -> Tensor:
    if node.wants(1):
        raise node.refusal("its second output, the indices, is used")
    if not x.is_floating_point():
        raise node.refusal(f"input of type {x.dtype}")
    over = _windows(node, x)
    padding = over.before
    if not over.symmetric or over.ceil or any(2 * p > k for p, k in zip(padding, over.kernel, strict=True)):
        lengths = x.shape[2:]
        x = extend(over.pad(x, float("-inf")), over.overhang(lengths), float("-inf"))
        padding = (0,) * len(padding)
    return _MAX[len(over.kernel)](x, over.kernel, over.stride, padding, over.dilation)


def average_pool(node: Node, x: Tensor) -> Tensor:
    over = _windows(node, x)
    rank = len(over.kernel)
    include = bool(node.integer("count_include_pad", 0))
    if _torch_can_average(over):
        pool = _AVERAGE[rank]
        return pool(x, over.kernel, over.stride, over.before, False, include)
    counted = over.pad(torch.ones_like(x[:1, :1]), 1.0 if include else 0.0)
    return _window_sum(over, x) / _sum(over, extend(counted, over.overhang(x.shape[2:]), 0.0))


def lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.integer("p", 2)
    over = _windows(node, x)
    return _window_sum(over, x.abs() ** p) ** (1.0 / p)


def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True)


def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True)


def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.integer("p", 2)
    return (x.abs() ** p).sum(_spatial(x), keepdim=True) ** (1.0 / p)


def _windows(node: Node, x: Tensor) -> Windows:
    kernel = node.integers("kernel_shape", ())
    if len(kernel) not in _MAX:
        raise node.refusal(f"{len(kernel)} spatial axes")
    return windows(node, x.shape[2:], kernel)


def _torch_can_average(over: Windows) -> bool:
    small = all(2 * p <= k for p, k in zip(over.before, over.kernel, strict=True))
    return over.symmetric and not over.ceil and small and set(over.dilation) == {1}


def _window_sum(over: Windows, x: Tensor) -> Tensor:
    return _sum(over, extend(over.pad(x, 0.0), over.overhang(x.shape[2:]), 0.0))


def _sum(over: Windows, x: Tensor) -> Tensor:
    """Sum over each window of the padded `x` (N, C, ...), as a depthwise convolution with ones."""
    planes = x.reshape(-1, 1, *x.shape[2:])
    ones = torch.ones(1, 1, *over.kernel, dtype=x.dtype, device=x.device)
    sums = _CONV[len(over.kernel)](planes, ones, None, over.stride, 0, over.dilation)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


POOL = {
    "MaxPool": Operator(max_pool),
    "AveragePool": Operator(average_pool),
    "LpPool": Operator(lp_pool),
    "GlobalAveragePool": Operator(global_average_pool),
    "GlobalMaxPool": Operator(global_max_pool),
    "GlobalLpPool": Operator(global_lp_pool),
}
