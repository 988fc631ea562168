"""Products on bytes: which nodes of a quantised model multiply a stored weight, and what that weight holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.format.operators import DEPTHWISE, DEPTHWISE_SLOTS, standard_name
from crisp_onnx.model import WeightLayer


@dataclass(frozen=True)
class _Slots:
    """Inputs of an operator on bytes: data, weight, zero point of the weight. `standard`: the product that it is.

    `zero` is None where the weight has none.
    """

    data: int
    weight: int
    zero: int | None
    standard: str


_OPERATORS: Mapping[str, _Slots] = {
    "QLinearConv": _Slots(0, 3, 5, "Conv"),
    "ConvInteger": _Slots(0, 1, 3, "Conv"),
    "QLinearMatMul": _Slots(0, 3, 5, "MatMul"),
    "MatMulInteger": _Slots(0, 1, 3, "MatMul"),
    "QGemm": _Slots(0, 3, 5, "Gemm"),
    "MatMulIntegerToFloat": _Slots(0, 1, 5, "MatMul"),
    "DynamicQuantizeMatMul": _Slots(0, 1, 3, "MatMul"),
    DEPTHWISE: _Slots(0, DEPTHWISE_SLOTS.index("W"), None, "Conv"),
}
"""ONNX's, of its domain com.microsoft ONNX Runtime's, and ours that is not hybrid."""


def plain_name(op: str) -> str:
    """The ONNX operator on floats that does what `op`, a hybrid one or one on bytes, does; else `op` itself."""
    slots = _OPERATORS.get(op)
    return slots.standard if slots else standard_name(op.removeprefix("QLinear"))


DEQUANTIZE = "DequantizeLinear"
CONVERSIONS = frozenset({"QuantizeLinear", DEQUANTIZE})
_FLOAT_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class ByteProduct:
    """A product on bytes: `layer` as if it were on floats, its data, and its weight less its zero point."""

    layer: WeightLayer
    data: gs.Tensor
    values: npt.NDArray[Any]


def on_bytes(node: gs.Node) -> bool:
    """Whether `node` multiplies bytes, stored or not: an operator on bytes, or one between conversions."""
    if node.op in _OPERATORS:
        return True
    return node.op in _FLOAT_OPERATORS and len(node.inputs) > 1 and all(_dequantised(t) for t in node.inputs[:2])


_ON_BYTES_TOO = frozenset(
    {
        "Add", "AveragePool", "Clip", "Concat", "Expand", "Flatten", "Gather", "GlobalAveragePool", "LeakyRelu",
        "MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split",
        "Squeeze", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators without weights that runtimes, ONNX Runtime among them, have on bytes; others are done in floats."""


_LETS_THROUGH = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators before which runtimes put a conversion to bytes that stands behind them."""


def moves_bytes(node: gs.Node) -> bool:
    """Whether `node`, between conversions, takes bytes and gives bytes, which a runtime does without any floats.

    One that only chooses or moves values may take floats: runtimes put the conversion behind it before it.
    """
    if node.op not in _ON_BYTES_TOO:
        return False
    taken = [tensor for tensor in node.inputs if not isinstance(tensor, gs.Constant) and not tensor.is_empty()]
    readers = [reader for tensor in node.outputs for reader in tensor.outputs]
    back = bool(readers) and all(reader.op == "QuantizeLinear" for reader in readers)
    through = node.op in _LETS_THROUGH
    return back and bool(taken) and (through or all(_dequantised(tensor) is not None for tensor in taken))


def operands(node: gs.Node) -> tuple[gs.Tensor, gs.Tensor]:
    """The two factors of a product on bytes."""
    slots = _OPERATORS.get(node.op)
    return (node.inputs[slots.data], node.inputs[slots.weight]) if slots else (node.inputs[0], node.inputs[1])


def byte_product(node: gs.Node) -> ByteProduct | None:
    """The product with a stored weight that `node` is, or `None`."""
    if not on_bytes(node):
        return None
    slots = _OPERATORS.get(node.op)
    data, factor = operands(node)
    standard = slots.standard if slots else node.op
    if slots:
        weight = factor
        zero = node.inputs[slots.zero] if slots.zero is not None and slots.zero < len(node.inputs) else None
    else:
        source = _dequantised(factor)
        if source is None:
            return None
        weight = source.inputs[0]
        zero = source.inputs[2] if len(source.inputs) > 2 else None
    if not isinstance(weight, gs.Constant):
        return None
    dims = tuple(int(side) for side in weight.shape)
    groups = int(node.attrs.get("group", 1)) if standard == "Conv" else 1
    transposed = standard == "MatMul" or (standard == "Gemm" and not node.attrs.get("transB", 0))
    shape = _shape(dims, standard, transposed=transposed)
    if shape is None:
        return None
    layer = WeightLayer(node.name, standard, weight.name, shape, groups, transposed, None, "its weights are bytes")
    return ByteProduct(layer, data, _centred(weight, zero))


def _shape(dims: tuple[int, ...], standard: str, *, transposed: bool) -> tuple[int, int, int, int] | None:
    """(Cout, Cin per group, kh, kw), or `None` for more axes than a matrix has."""
    if standard == "Conv":
        return (dims[0], dims[1], prod(dims[2:-1]), dims[-1]) if len(dims) > 2 else None
    if len(dims) != 2:
        return None
    return (dims[1], dims[0], 1, 1) if transposed else (dims[0], dims[1], 1, 1)


def _dequantised(tensor: gs.Tensor) -> gs.Node | None:
    """The conversion that wrote `tensor`."""
    writer = tensor.inputs[0] if tensor.inputs else None
    return writer if writer is not None and writer.op == DEQUANTIZE else None


def _centred(weight: gs.Constant, zero: gs.Tensor | None) -> npt.NDArray[Any]:
    """The stored numbers less their zero point, which is one for all or one for each along some axis: 0 means zero."""
    values: npt.NDArray[Any] = np.asarray(weight.values).astype(np.int32)
    if not isinstance(zero, gs.Constant):
        return values
    points = np.asarray(zero.values).astype(np.int32).ravel()
    if points.size == 1:
        return np.asarray(values - points[0])
    axis = next((axis for axis in (0, values.ndim - 1) if values.shape[axis] == points.size), None)
    if axis is None:
        return values
    return np.asarray(values - points.reshape([-1 if at == axis else 1 for at in range(values.ndim)]))
