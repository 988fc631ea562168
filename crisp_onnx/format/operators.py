"""The hybrid operators: one row each: every input, every attribute, the element type it computes in."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

DOMAIN = "pkg.crisp_onnx"
VERSION = 1
CONV, CONV_ADD, GEMM = "HybridConv", "HybridConvAdd", "HybridGemm"
Q_CONV, Q_CONV_ADD, Q_GEMM = "HybridQConv", "HybridQConvAdd", "HybridQGemm"
MAX_POOL, DEPTHWISE, TABLE = "QMaxPool", "QDepthwiseConv", "QTable"
BYTE_OPERATORS = (MAX_POOL, DEPTHWISE, TABLE)
"""Not hybrid: what stands between hybrid layers on bytes and takes ONNX Runtime as long as they do. MaxPool, depthwise
convolutions, and functions of single bytes."""
DEPTHWISE_SLOTS = ("X", "x_scale", "x_zero", "W", "w_scale", "bias", "y_scale", "y_zero")
"""W int8 (channels, 1, kh, kw), w_scale and int32 bias (channels); what the bytes mean as in the hybrid operators."""
FLOAT, INT8 = "float32", "uint8"
"""The element types of activations: real numbers, or bytes with a scale and a zero point beside int8 weights."""

Product = Literal["conv", "gemm"]

FORMAT_ATTRIBUTES = ("n", "m", "block", "vector_rows", "index_bits", "weight_shape")
WINDOW_ATTRIBUTES = ("strides", "pads", "dilations")
BOUND_ATTRIBUTES = ("lower", "upper")


@dataclass(frozen=True)
class Slot:
    """One input of an operator.

    `dtype`: NumPy's name of its element type; `stored`: fixed in the file; `single`: one number, of no axes.
    """

    name: str
    dtype: str
    stored: bool = False
    single: bool = False


@dataclass(frozen=True)
class Operator:
    """`standard`: the ONNX operators it stands for. `element`: the type of its data, its residual and its output.

    `widened`: the operator that takes a residual besides, where there is one.
    """

    name: str
    product: Product
    standard: tuple[str, ...]
    slots: tuple[Slot, ...]
    element: str = FLOAT
    widened: str = ""

    @property
    def attributes(self) -> tuple[str, ...]:
        window = WINDOW_ATTRIBUTES if self.product == "conv" else ()
        return (*FORMAT_ATTRIBUTES, *window, *BOUND_ATTRIBUTES)

    def place(self, slot: str) -> int | None:
        """The number of an input, or None where the operator has none of that name."""
        return next((place for place, found in enumerate(self.slots) if found.name == slot), None)


DATA, VALUES, INDICES, BLOCKS, BIAS, RESIDUAL = "X", "values", "indices", "blocks", "bias", "Z_in"
PACKED = (VALUES, INDICES, BLOCKS)
"""The slots that together hold a weight; the file names each tensor `<weight>.<slot>`."""
WEIGHT_SCALE = "w_scale"
X_GRID, Y_GRID, Z_GRID = ("x_scale", "x_zero"), ("y_scale", "y_zero"), ("z_scale", "z_zero")
"""What the bytes of data, output and residual mean: real = (byte - zero) * scale."""

_FLOAT_SLOTS = (
    Slot(DATA, FLOAT),
    Slot(VALUES, "float32", stored=True),
    Slot(INDICES, "uint8", stored=True),
    Slot(BLOCKS, "int32", stored=True),
    Slot(BIAS, "float32", stored=True),
)


def _grid(names: tuple[str, str]) -> tuple[Slot, Slot]:
    return Slot(names[0], "float32", stored=True, single=True), Slot(names[1], "uint8", stored=True, single=True)


_INT8_SLOTS = (
    Slot(DATA, INT8),
    *_grid(X_GRID),
    Slot(VALUES, "int8", stored=True),
    Slot(INDICES, "uint8", stored=True),
    Slot(BLOCKS, "int32", stored=True),
    Slot(WEIGHT_SCALE, "float32", stored=True),
    Slot(BIAS, "int32", stored=True),
    *_grid(Y_GRID),
)
_ROWS = (
    Operator(CONV, "conv", ("Conv",), _FLOAT_SLOTS, widened=CONV_ADD),
    Operator(CONV_ADD, "conv", ("Conv",), (*_FLOAT_SLOTS, Slot(RESIDUAL, FLOAT))),
    Operator(GEMM, "gemm", ("Gemm", "MatMul"), _FLOAT_SLOTS),
    Operator(Q_CONV, "conv", ("Conv",), _INT8_SLOTS, INT8),
    Operator(Q_CONV_ADD, "conv", ("Conv",), (*_INT8_SLOTS, Slot(RESIDUAL, INT8), *_grid(Z_GRID)), INT8),
    Operator(Q_GEMM, "gemm", ("Gemm", "MatMul"), _INT8_SLOTS, INT8),
)
OPERATORS = MappingProxyType({row.name: row for row in _ROWS})
HYBRID_OPS = tuple(OPERATORS)


def standard_name(op: str) -> str:
    """The ONNX operator that computes the product of a hybrid one, or `op` itself where it is no hybrid one."""
    return OPERATORS[op].standard[0] if op in OPERATORS else op


def hybrid_name(op: str, element: str = FLOAT) -> str:
    """The hybrid operator, without residual, that stands for a standard one, or `op` itself where none does."""
    fitting = (row for row in _ROWS if op in row.standard and row.element == element)
    return next((row.name for row in fitting), op)


def in_int8(operator: Operator) -> Operator:
    """The operator that computes the same on bytes."""
    residual = operator.place(RESIDUAL) is not None
    return next(
        row
        for row in _ROWS
        if row.element == INT8 and row.product == operator.product and (row.place(RESIDUAL) is not None) == residual
    )
