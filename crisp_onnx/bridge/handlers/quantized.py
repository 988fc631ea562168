"""DequantizeLinear, per tensor and per axis: how a file stores a weight as int8."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.bridge.handlers.create import onnx_type
from crisp_onnx.bridge.node import Node, Operator


def dequantize(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    scale, zero = _along_axis(node, x, scale, zero)
    # Differences of integers are exact in int32; the product then rounds once, as ONNX Runtime does.
    whole = x.to(torch.int32) if zero is None else x.to(torch.int32) - zero.to(torch.int32)
    return whole.to(scale.dtype) * scale


def _along_axis(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if node.integer("block_size", 0) or scale.ndim > 1:
        raise node.refusal("blocked quantisation")
    if node.integer("output_dtype", 0) and onnx_type(node, "output_dtype") != scale.dtype:
        raise node.refusal("an output type other than that of the scale")
    if scale.ndim == 0 or scale.numel() == 1:
        return scale.reshape(()), None if zero is None else zero.reshape(())
    axis = node.integer("axis", 1) % x.ndim
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    return scale.reshape(shape), None if zero is None else zero.reshape(shape)


QUANTIZED = {"DequantizeLinear": Operator(dequantize)}
