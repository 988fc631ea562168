"""One-node models of the operators of bytes without packed weights, and what they compute, in whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hybrid_layer import OPSET
from int8_layer import Tensors
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import DOMAIN, VERSION
from crisp_onnx.format.bodies import byte_function

Bytes = npt.NDArray[np.uint8]


def byte_model(
    op: str, attributes: Mapping[str, Any], tensors: Tensors, rank: int, *, body: bool = True
) -> onnx.ModelProto:
    node = helper.make_node(op, ["X", *tensors], ["Y"], name="layer0", domain=DOMAIN, **attributes)
    data = [helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * rank) for name in "XY"]
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph([node], "layer", data[:1], data[1:], stored)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [byte_function(op, OPSET)] if body else []
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


def exact_depthwise(tensors: Tensors, attributes: Mapping[str, Any], x: Bytes) -> Bytes:
    """Whole numbers, then one rounding in double precision."""
    top, left, bottom, right = attributes["pads"]
    whole = np.pad(x.astype(np.int64) - int(tensors["x_zero"]), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sh, sw), (dh, dw), (kh, kw) = (attributes[name] for name in ("strides", "dilations", "kernel_shape"))
    out = [
        (side - d * (k - 1) - 1) // s + 1
        for side, d, k, s in zip(whole.shape[2:], (dh, dw), (kh, kw), (sh, sw), strict=True)
    ]
    sums = np.zeros((*x.shape[:2], *out), np.int64) + tensors["bias"].astype(np.int64).reshape(-1, 1, 1)
    for i, j in np.ndindex(kh, kw):
        part = whole[:, :, i * dh : i * dh + sh * (out[0] - 1) + 1 : sh, j * dw : j * dw + sw * (out[1] - 1) + 1 : sw]
        sums += part * tensors["W"][:, 0, i, j].astype(np.int64).reshape(-1, 1, 1)
    scales = tensors["w_scale"].astype(np.float64) * np.float64(tensors["x_scale"]) / np.float64(tensors["y_scale"])
    steps = np.rint(sums * scales.reshape(-1, 1, 1)) + int(tensors["y_zero"])
    return np.clip(steps, 0, 255).astype(np.uint8)


def pool_attributes(kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...]) -> dict[str, Any]:
    return {"kernel_shape": kernel, "strides": strides, "pads": pads}


def greatest_bytes(attributes: Mapping[str, Any], x: Bytes) -> Bytes:
    """What a pool means, window by window; padding is less than any byte."""
    top, left, bottom, right = attributes["pads"]
    (kh, kw), (sh, sw) = attributes["kernel_shape"], attributes["strides"]
    whole = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out = [(side - k) // s + 1 for side, k, s in zip(whole.shape[2:], (kh, kw), (sh, sw), strict=True)]
    found = np.zeros((*x.shape[:2], *out), np.uint8)
    for i, j in np.ndindex(*out):
        found[:, :, i, j] = whole[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw].max(axis=(2, 3))
    return found
