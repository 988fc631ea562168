"""Operators that make a tensor from a shape, bounds or an attribute, and those that change the element type."""

from __future__ import annotations

import math

import torch
from onnx import TensorProto
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import HOST_SIZE, Host, Value

# A plain dict, because torch.compile cannot trace through protobuf's own tables.
_TYPES = {
    int(TensorProto.FLOAT16): torch.float16,
    int(TensorProto.BFLOAT16): torch.bfloat16,
    int(TensorProto.FLOAT): torch.float32,
    int(TensorProto.DOUBLE): torch.float64,
    int(TensorProto.INT8): torch.int8,
    int(TensorProto.INT16): torch.int16,
    int(TensorProto.INT32): torch.int32,
    int(TensorProto.INT64): torch.int64,
    int(TensorProto.UINT8): torch.uint8,
    int(TensorProto.BOOL): torch.bool,
}


def constant(node: Node, *, device: torch.device) -> Tensor:
    """Any of the attribute forms of Constant that hold numbers."""
    stored = node.attrs.get("value")
    if isinstance(stored, Tensor):
        return stored.to(device)
    for key, dtype in (("value_float", torch.float32), ("value_floats", torch.float32)):
        if key in node.attrs:
            return torch.tensor(node.attrs[key], dtype=dtype, device=device)
    for key in ("value_int", "value_ints"):
        if key in node.attrs:
            return torch.tensor(node.attrs[key], dtype=torch.int64, device=device)
    raise node.refusal(f"a constant given as {', '.join(node.attrs) or 'nothing'}")


def constant_of_shape(node: Node, shape: Host, *, device: torch.device) -> Value:
    fill: Host = node.attrs.get("value", Host((0.0,), 1, torch.float32))
    number = fill.values[0]
    lengths = list(shape.values)
    if len(lengths) == 1 and lengths[0] <= HOST_SIZE and not fill.dtype.is_floating_point:
        return Host((number,) * lengths[0], 1, fill.dtype)
    return torch.full(lengths, number, dtype=fill.dtype, device=device)


def arange(node: Node, start: Host, limit: Host, delta: Host, *, device: torch.device) -> Value:
    first, stop, step = (
        int(h.values[0]) if not h.dtype.is_floating_point else h.values[0] for h in (start, limit, delta)
    )
    if start.dtype.is_floating_point:
        count = max(math.ceil((stop - first) / step), 0)
        return first + step * torch.arange(count, dtype=start.dtype, device=device)
    return torch.arange(first, stop, step, dtype=start.dtype, device=device)


def cast(node: Node, x: Tensor) -> Tensor:
    return x.to(onnx_type(node, "to"))


def onnx_type(node: Node, key: str) -> torch.dtype:
    """The torch type that the attribute `key` names."""
    number = node.integer(key, 0)
    if number not in _TYPES:
        raise node.refusal(f"{key}={number}, an element type that the bridge cannot compute with")
    return _TYPES[number]


def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


CREATE = {
    "Constant": Operator(constant, creates=True),
    "ConstantOfShape": Operator(constant_of_shape, host=(0,), creates=True),
    "Range": Operator(arange, host=(0, 1, 2), creates=True),
    "Cast": Operator(cast),
    "CastLike": Operator(cast_like),
}
