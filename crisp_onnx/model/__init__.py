"""Stage 1, read: load and check an ONNX file, find its weight layers, write files atomically."""

from crisp_onnx.model.layers import WeightLayer, weight_layers
from crisp_onnx.model.names import fresh_name, tensor_names, used_names
from crisp_onnx.model.opset import upgrade
from crisp_onnx.model.read import is_unchanged, load
from crisp_onnx.model.shapes import tensor_shapes, with_value_info
from crisp_onnx.model.spec import DEFAULT_SIZE, Model, Size, TensorSpec, height_and_width
from crisp_onnx.model.write import save, weights_files, write_files

__all__ = [
    "DEFAULT_SIZE",
    "Model",
    "Size",
    "TensorSpec",
    "WeightLayer",
    "fresh_name",
    "height_and_width",
    "is_unchanged",
    "load",
    "save",
    "tensor_names",
    "tensor_shapes",
    "upgrade",
    "used_names",
    "weight_layers",
    "weights_files",
    "with_value_info",
    "write_files",
]
