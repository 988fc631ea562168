"""One hybrid node, read and written: no other folder knows its attributes, its slots or the names of its tensors."""

from crisp_onnx.format.node.int8 import (
    Grid,
    Int8Names,
    Int8Weight,
    OnGrid,
    grids_of,
    int8_weight_of,
    quantise,
)
from crisp_onnx.format.node.parts import (
    activations_of,
    bias_of,
    data_of,
    is_hybrid,
    is_int8,
    kept_blocks_of,
    packed_names,
    residual_of,
    tensors_of,
    value_bytes_of,
    weight_name,
)
from crisp_onnx.format.node.reading import damaged, read
from crisp_onnx.format.node.stated import HybridNode, Shape, Window
from crisp_onnx.format.node.writing import (
    add_residual,
    base_name,
    bias_name,
    packed,
    rewrite,
    set_bias,
    set_bounds,
)

__all__ = [
    "Grid",
    "HybridNode",
    "Int8Names",
    "Int8Weight",
    "OnGrid",
    "Shape",
    "Window",
    "activations_of",
    "add_residual",
    "base_name",
    "bias_name",
    "bias_of",
    "damaged",
    "data_of",
    "grids_of",
    "int8_weight_of",
    "is_hybrid",
    "is_int8",
    "kept_blocks_of",
    "packed",
    "packed_names",
    "quantise",
    "read",
    "residual_of",
    "rewrite",
    "set_bias",
    "set_bounds",
    "tensors_of",
    "value_bytes_of",
    "weight_name",
]
