"""Stage 9, lower: hardware descriptors, and a model as a target sees it (`crisp-lowered/1`)."""

from crisp_onnx.lower.lower import lower, lowered_json_schema, lowered_path, write_lowered
from crisp_onnx.lower.lowered import Lowered, LoweredOp, read_lowered
from crisp_onnx.lower.pattern import Pattern
from crisp_onnx.lower.target import Target, load_target, target_names

__all__ = [
    "Lowered",
    "LoweredOp",
    "Pattern",
    "Target",
    "load_target",
    "lower",
    "lowered_json_schema",
    "lowered_path",
    "read_lowered",
    "target_names",
    "write_lowered",
]
