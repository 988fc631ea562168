"""Elementwise arithmetic with NumPy broadcasting."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator

Number = int | float | bool


def _unary(function: Callable[[Tensor], Tensor], node: Node, x: Tensor) -> Tensor:
    return function(x)


def _binary(function: Callable[[Any, Any], Tensor], node: Node, a: Tensor | Number, b: Tensor | Number) -> Tensor:
    return function(a, b)


def _variadic(function: Callable[[Tensor, Tensor], Tensor], node: Node, *tensors: Tensor) -> Tensor:
    return reduce(function, tensors)


def divide(node: Node, a: Tensor, b: Tensor | Number) -> Tensor:
    """Division; of integers, rounded towards zero."""
    if isinstance(a, Tensor) and a.is_floating_point():
        return a / b
    if isinstance(b, Tensor) and b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def power(node: Node, base: Tensor, exponent: Tensor | Number) -> Tensor:
    """The result has the type of the base."""
    result = torch.pow(base, exponent)
    return result if base.is_floating_point() else result.to(base.dtype)


def modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """The sign follows the divisor; with `fmod=1`, the dividend."""
    return torch.fmod(a, b) if node.integer("fmod", 0) else torch.remainder(a, b)


def mean(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def clip(node: Node, x: Tensor, low: Tensor | Number | None = None, high: Tensor | Number | None = None) -> Tensor:
    if low is None and high is None:
        return x
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return torch.clamp(x, low, high)


_UNARY: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_BINARY = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Equal": operator.eq,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
}
_LOGICAL = {"And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor}
_VARIADIC: dict[str, Callable[..., Tensor]] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}

ELEMENTWISE = {
    **{op: Operator(partial(_unary, function)) for op, function in _UNARY.items()},
    **{op: Operator(partial(_binary, function), scalar=(0, 1)) for op, function in _BINARY.items()},
    **{op: Operator(partial(_binary, function)) for op, function in _LOGICAL.items()},
    **{op: Operator(partial(_variadic, function)) for op, function in _VARIADIC.items()},
    "Clip": Operator(clip, scalar=(1, 2)),
    "Div": Operator(divide, scalar=(1,)),
    "Mean": Operator(mean),
    "Mod": Operator(modulo),
    "Pow": Operator(power, scalar=(1,)),
}
