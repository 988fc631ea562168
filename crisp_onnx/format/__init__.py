"""The hybrid format, which later stages speak: pattern, matrix view, tensors and the operators' function bodies."""

from crisp_onnx.format.encode import HybridTensors, decode, encode, unpack
from crisp_onnx.format.operators import CONV, CONV_ADD, DOMAIN, GEMM, HYBRID_OPS, VERSION, operator_function
from crisp_onnx.format.pattern import Pattern, parse_pattern

__all__ = [
    "CONV",
    "CONV_ADD",
    "DOMAIN",
    "GEMM",
    "HYBRID_OPS",
    "VERSION",
    "HybridTensors",
    "Pattern",
    "decode",
    "encode",
    "operator_function",
    "parse_pattern",
    "unpack",
]
