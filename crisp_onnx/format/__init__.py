"""Stage 7, encode: the hybrid tensors and the operators' function bodies."""

from crisp_onnx.format.encode import HybridTensors, decode, encode, unpack
from crisp_onnx.format.operators import CONV, CONV_ADD, DOMAIN, GEMM, HYBRID_OPS, VERSION, operator_function

__all__ = [
    "CONV",
    "CONV_ADD",
    "DOMAIN",
    "GEMM",
    "HYBRID_OPS",
    "VERSION",
    "HybridTensors",
    "decode",
    "encode",
    "operator_function",
    "unpack",
]
