"""Stage 9, lower: hardware descriptors, and a model as a target sees it (`crisp-lowered/1`)."""

from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.lower_model import lower, lowered_json_schema, lowered_path, write_lowered
from crisp_onnx.lowering.lowered import Lowered, LoweredOp, read_lowered
from crisp_onnx.lowering.target import Target, load_target, target_names

__all__ = [
    "LayerSparsity",
    "Lowered",
    "LoweredOp",
    "Target",
    "load_target",
    "lower",
    "lowered_json_schema",
    "lowered_path",
    "read_lowered",
    "target_names",
    "write_lowered",
]
