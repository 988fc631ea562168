"""Shape arithmetic on plain Python numbers: the operators that exporters put between `Shape` and `Reshape`.

A handler gets `Host` scalars and vectors and returns one, or `None` where it cannot: the caller then computes with
tensors instead.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from crisp_onnx.bridge.handlers.create import onnx_type
from crisp_onnx.bridge.node import HostHandler, Node
from crisp_onnx.bridge.value import Host


def _rounded(value: Any, dtype: torch.dtype) -> Any:
    """The number as `dtype` holds it. Taking 2^29+1 times a double away from itself leaves 24 bits (Veltkamp)."""
    if not dtype.is_floating_point:
        return value
    value = float(value)
    if dtype != torch.float32 or not math.isfinite(value):
        return value
    split = value * 536870913.0
    return split - (split - value)


def _pair(function: Callable[[Any, Any], Any], result: torch.dtype | None, node: Node, a: Host, b: Host) -> Host | None:
    length = max(len(a.values), len(b.values))
    if len(a.values) not in (1, length) or len(b.values) not in (1, length):
        return None
    left, right = (h.values * length if len(h.values) == 1 else h.values for h in (a, b))
    dtype = result or a.dtype
    values = tuple(_rounded(function(x, y), dtype) for x, y in zip(left, right, strict=True))
    return Host(values, max(a.rank, b.rank), dtype)


def _single(function: Callable[[Any], Any], node: Node, x: Host) -> Host:
    return Host(tuple(_rounded(function(v), x.dtype) for v in x.values), x.rank, x.dtype)


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def _and(a: Any, b: Any) -> bool:
    return bool(a and b)


def _or(a: Any, b: Any) -> bool:
    return bool(a or b)


def extreme(function: Callable[[Any, Any], Any], node: Node, *parts: Host) -> Host | None:
    result: Host | None = parts[0]
    for part in parts[1:]:
        result = None if result is None else _pair(function, None, node, result, part)
    return result


def cast(node: Node, x: Host) -> Host | None:
    dtype = onnx_type(node, "to")
    if dtype.is_floating_point:
        return Host(tuple(_rounded(float(v), dtype) for v in x.values), x.rank, dtype)
    convert = bool if dtype == torch.bool else int
    return Host(tuple(convert(v) for v in x.values), x.rank, dtype)


def concat(node: Node, *parts: Host) -> Host | None:
    if any(p.rank != 1 for p in parts):
        return None
    return Host(tuple(v for p in parts for v in p.values), 1, parts[0].dtype)


def gather(node: Node, x: Host, indices: Host) -> Host | None:
    if x.rank != 1:
        return None
    return Host(tuple(x.values[int(i)] for i in indices.values), indices.rank, x.dtype)


def slice_(
    node: Node, x: Host, starts: Host, ends: Host, axes: Host | None = None, steps: Host | None = None
) -> Host | None:
    if x.rank != 1 or len(starts.values) != 1:
        return None
    step = steps.values[0] if steps is not None else 1
    if step < 0:
        return None
    return Host(x.values[starts.values[0] : ends.values[0] : step], 1, x.dtype)


def squeeze(node: Node, x: Host, axes: Host | None = None) -> Host | None:
    return Host(x.values, 0, x.dtype) if x.rank == 1 and len(x.values) == 1 else None


def unsqueeze(node: Node, x: Host, axes: Host) -> Host | None:
    return Host(x.values, 1, x.dtype) if x.rank == 0 and len(axes.values) == 1 else None


def reshape(node: Node, x: Host, shape: Host) -> Host | None:
    fits = shape.values in ((-1,), (len(x.values),)) or (not shape.values and len(x.values) == 1)
    return Host(x.values, len(shape.values), x.dtype) if fits else None


def identity(node: Node, x: Host) -> Host:
    return x


def where(node: Node, condition: Host, a: Host, b: Host) -> Host | None:
    length = max(len(h.values) for h in (condition, a, b))
    if any(len(h.values) not in (1, length) for h in (condition, a, b)):
        return None
    columns: list[Sequence[Any]] = [h.values * length if len(h.values) == 1 else h.values for h in (condition, a, b)]
    values = tuple(x if c else y for c, x, y in zip(*columns, strict=True))
    return Host(values, max(condition.rank, a.rank, b.rank), a.dtype)


def split(node: Node, x: Host, lengths: Host | None = None) -> list[Host] | None:
    if x.rank != 1 or (lengths is None and len(x.values) % len(node.outputs)):
        return None
    even = [len(x.values) // len(node.outputs)] * len(node.outputs)
    result, start = [], 0
    for length in even if lengths is None else lengths.values:
        result.append(Host(x.values[start : start + length], 1, x.dtype))
        start += length
    return result


def reduce(function: Callable[[Sequence[Any]], Any], node: Node, x: Host, axes: Host | None = None) -> Host | None:
    if x.rank != 1 or not x.values or node.integer("noop_with_empty_axes", 0):
        return None
    return Host((_rounded(function(x.values), x.dtype),), node.integer("keepdims", 1), x.dtype)


_PAIRS: dict[str, tuple[Callable[[Any, Any], Any], torch.dtype | None]] = {
    "Add": (operator.add, None),
    "Sub": (operator.sub, None),
    "Mul": (operator.mul, None),
    "Div": (_divide, None),
    "And": (_and, None),
    "Or": (_or, None),
    "Equal": (operator.eq, torch.bool),
    "Less": (operator.lt, torch.bool),
    "LessOrEqual": (operator.le, torch.bool),
    "Greater": (operator.gt, torch.bool),
    "GreaterOrEqual": (operator.ge, torch.bool),
}
_SINGLES: dict[str, Callable[[Any], Any]] = {
    "Abs": abs,
    "Neg": operator.neg,
    "Floor": math.floor,
    "Ceil": math.ceil,
    "Sqrt": math.sqrt,
    "Not": operator.not_,
}

HOST_OPERATORS: dict[str, HostHandler] = {
    **{op: partial(_pair, function, result) for op, (function, result) in _PAIRS.items()},
    **{op: partial(_single, function) for op, function in _SINGLES.items()},
    "Cast": cast,
    "Max": partial(extreme, max),
    "Min": partial(extreme, min),
    "Concat": concat,
    "Gather": gather,
    "Identity": identity,
    "ReduceMax": partial(reduce, max),
    "ReduceMin": partial(reduce, min),
    "ReduceProd": partial(reduce, math.prod),
    "ReduceSum": partial(reduce, sum),
    "Reshape": reshape,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
