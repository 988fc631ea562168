"""QuantizeLinear and DequantizeLinear, per tensor and per axis: the two ends of a stored int8 weight."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.bridge.node import Node, Operator


def dequantize(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    scale, zero = _along_axis(node, x, scale, zero)
    # Differences of integers are exact in int32; the product then rounds once, as ONNX Runtime does.
    whole = x.to(torch.int32) if zero is None else x.to(torch.int32) - zero.to(torch.int32)
    return whole.to(scale.dtype) * scale


def _along_axis(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if node.integer("block_size", 0):
        raise node.refusal("blocked quantisation")
    if scale.ndim == 0 or scale.numel() == 1:
        return scale.reshape(()), None if zero is None else zero.reshape(())
    axis = node.integer("axis", 1) % x.ndim
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    return scale.reshape(shape), None if zero is None else zero.reshape(shape)


QUANTIZED = {"DequantizeLinear": Operator(dequantize)}
