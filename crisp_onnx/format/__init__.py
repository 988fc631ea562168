"""The hybrid format, which later stages speak: pattern, matrix view, packed tensors, nodes and function bodies."""

from crisp_onnx.format.bodies import operator_function, with_bodies
from crisp_onnx.format.counting import HybridLayer, recount
from crisp_onnx.format.operators import (
    CONV,
    CONV_ADD,
    DOMAIN,
    GEMM,
    HYBRID_OPS,
    OPERATORS,
    VERSION,
    hybrid_name,
)
from crisp_onnx.format.packing import HybridTensors, decode, encode, unpack
from crisp_onnx.format.pattern import Pattern, parse_pattern

__all__ = [
    "CONV",
    "CONV_ADD",
    "DOMAIN",
    "GEMM",
    "HYBRID_OPS",
    "OPERATORS",
    "VERSION",
    "HybridLayer",
    "HybridTensors",
    "Pattern",
    "decode",
    "encode",
    "hybrid_name",
    "operator_function",
    "parse_pattern",
    "recount",
    "unpack",
    "with_bodies",
]
