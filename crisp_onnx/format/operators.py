"""The hybrid operators: one row each: every input, every attribute, the element type it computes in."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

DOMAIN = "pkg.crisp_onnx"
VERSION = 1
CONV, CONV_ADD, GEMM = "HybridConv", "HybridConvAdd", "HybridGemm"

Product = Literal["conv", "gemm"]

FORMAT_ATTRIBUTES = ("n", "m", "block", "vector_rows", "index_bits", "weight_shape")
WINDOW_ATTRIBUTES = ("strides", "pads", "dilations")
BOUND_ATTRIBUTES = ("lower", "upper")


@dataclass(frozen=True)
class Slot:
    """One input of an operator. `dtype`: NumPy's name of its element type; `stored`: a weight, fixed in the file."""

    name: str
    dtype: str
    stored: bool = False


@dataclass(frozen=True)
class Operator:
    """`standard`: the ONNX operators it stands for. `element`: the type of activations and values.

    `widened`: the operator that takes a residual besides, where there is one.
    """

    name: str
    product: Product
    standard: tuple[str, ...]
    slots: tuple[Slot, ...]
    element: str = "float32"
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

_FLOAT_SLOTS = (
    Slot(DATA, "float32"),
    Slot(VALUES, "float32", stored=True),
    Slot(INDICES, "uint8", stored=True),
    Slot(BLOCKS, "int32", stored=True),
    Slot(BIAS, "float32", stored=True),
)
_ROWS = (
    Operator(CONV, "conv", ("Conv",), _FLOAT_SLOTS, widened=CONV_ADD),
    Operator(CONV_ADD, "conv", ("Conv",), (*_FLOAT_SLOTS, Slot(RESIDUAL, "float32"))),
    Operator(GEMM, "gemm", ("Gemm", "MatMul"), _FLOAT_SLOTS),
)
OPERATORS = MappingProxyType({row.name: row for row in _ROWS})
HYBRID_OPS = tuple(OPERATORS)


def standard_name(op: str) -> str:
    """The ONNX operator that computes the product of a hybrid one, or `op` itself where it is no hybrid one."""
    return OPERATORS[op].standard[0] if op in OPERATORS else op


def hybrid_name(op: str, element: str = "float32") -> str:
    """The hybrid operator, without residual, that stands for a standard one, or `op` itself where none does."""
    fitting = (row for row in _ROWS if op in row.standard and row.element == element)
    return next((row.name for row in fitting), op)
