"""The hybrid format, which later stages speak: pattern, matrix view, packed tensors, nodes and function bodies."""

from crisp_onnx.format.bodies import operator_function, with_bodies
from crisp_onnx.format.counting import HybridLayer, recount
from crisp_onnx.format.operators import (
    CONV,
    CONV_ADD,
    DOMAIN,
    FLOAT,
    GEMM,
    HYBRID_OPS,
    INT8,
    OPERATORS,
    Q_CONV,
    Q_CONV_ADD,
    Q_GEMM,
    VERSION,
    hybrid_name,
    in_int8,
)
from crisp_onnx.format.packing import HybridTensors, decode, encode, unpack
from crisp_onnx.format.pattern import Pattern, parse_pattern

__all__ = [
    "CONV",
    "CONV_ADD",
    "DOMAIN",
    "FLOAT",
    "GEMM",
    "HYBRID_OPS",
    "INT8",
    "OPERATORS",
    "Q_CONV",
    "Q_CONV_ADD",
    "Q_GEMM",
    "VERSION",
    "HybridLayer",
    "HybridTensors",
    "Pattern",
    "decode",
    "encode",
    "hybrid_name",
    "in_int8",
    "operator_function",
    "parse_pattern",
    "recount",
    "unpack",
    "with_bodies",
]
