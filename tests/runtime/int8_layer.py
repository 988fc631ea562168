"""Random int8 layers in the hybrid format and depthwise ones, one-node models of them, and what hybrid ones compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hybrid_layer import OPSET, random_layer
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import DOMAIN, VERSION, operator_function
from crisp_onnx.format.operators import DEPTHWISE_SLOTS
from crisp_onnx.format.packing import in_lanes

Bytes = npt.NDArray[np.uint8]
Tensors = dict[str, npt.NDArray[Any]]
FLOAT_NAMES = {"HybridQConv": "HybridConv", "HybridQConvAdd": "HybridConv", "HybridQGemm": "HybridGemm"}


@dataclass(frozen=True)
class Int8Layer:
    """Attributes and initializers, in the order of the operator's inputs after X; `Z_in` stands for the residual."""

    op: str
    attrs: dict[str, Any]
    tensors: dict[str, npt.NDArray[Any]]

    @property
    def scale(self) -> np.float64:
        return np.float64(self.tensors["y_scale"])


def random_int8_layer(
    rng: np.random.Generator,
    weight_shape: tuple[int, int, int, int],
    *,
    op: str = "HybridQConv",
    largest_weight: int = 127,
    **options: Any,
) -> Int8Layer:
    """A layer whose answers spread over all bytes. `options`: as those of `random_layer`."""
    base = random_layer(rng, weight_shape, op=FLOAT_NAMES[op], **options)
    floats = base.tensors["values"]
    values = rng.integers(-largest_weight, largest_weight, floats.shape, np.int8, endpoint=True)
    values[floats == 0] = 0  # the columns that pad the last block
    cout = weight_shape[0]
    x_scale, w_scale = rng.uniform(0.01, 0.1), rng.uniform(0.001, 0.01, cout)
    spread = float(np.median(w_scale)) * x_scale * 75 * largest_weight * np.sqrt(values[0].size / options["block"])
    tensors = {
        "x_scale": np.array(x_scale, np.float32),
        "x_zero": np.array(rng.integers(256), np.uint8),
        "values": in_lanes(values),
        "indices": base.tensors["indices"],
        "blocks": base.tensors["blocks"],
        "w_scale": w_scale.astype(np.float32),
        "bias": rng.integers(-5000, 5000, cout, np.int32),
        "y_scale": np.array(max(spread, 1e-6) / 60, np.float32),
        "y_zero": np.array(rng.integers(256), np.uint8),
    }
    if op == "HybridQConvAdd":
        grid = {"z_scale": np.array(tensors["y_scale"] * rng.uniform(0.3, 1), np.float32)}
        tensors |= {"Z_in": np.empty(0, np.uint8), **grid, "z_zero": np.array(rng.integers(256), np.uint8)}
    return Int8Layer(op, base.attrs, tensors)


def depthwise_tensors(rng: np.random.Generator, channels: int, kernel: tuple[int, int], **given: float) -> Tensors:
    weight = rng.integers(-128, 128, (channels, 1, *kernel)).astype(np.int8)
    w_scale = rng.uniform(0.001, 0.01, channels).astype(np.float32)
    spread = 0.05 * 0.005 * 75 * 75 * np.sqrt(kernel[0] * kernel[1])
    tensors = {
        "x_scale": np.array(given.get("x_scale", 0.05), np.float32),
        "x_zero": np.array(given.get("x_zero", rng.integers(256)), np.uint8),
        "W": weight,
        "w_scale": w_scale,
        "bias": rng.integers(-5000, 5000, channels).astype(np.int32),
        "y_scale": np.array(given.get("y_scale", spread / 60), np.float32),
        "y_zero": np.array(given.get("y_zero", rng.integers(256)), np.uint8),
    }
    assert ("X", *tensors) == DEPTHWISE_SLOTS
    return tensors


def depthwise_attributes(
    channels: int, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...], dilations: tuple[int, int]
) -> dict[str, Any]:
    window = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    return {"group": channels, **window}


def int8_model(layer: Int8Layer, *, rank: int = 4, body: bool = False) -> onnx.ModelProto:
    """One node, its tensors as initializers; every dimension of X is open. `body`: with the function body."""
    names = ["X", *layer.tensors]
    node = helper.make_node(layer.op, names, ["Y"], name="layer0", domain=DOMAIN, **layer.attrs)
    inputs = [helper.make_tensor_value_info("X", TensorProto.UINT8, [f"d{i}" for i in range(rank)])]
    if "Z_in" in layer.tensors:
        inputs.append(helper.make_tensor_value_info("Z_in", TensorProto.UINT8, [f"y{i}" for i in range(rank)]))
    output = helper.make_tensor_value_info("Y", TensorProto.UINT8, [f"y{i}" for i in range(rank)])
    stored = {name: array for name, array in layer.tensors.items() if name != "Z_in"}
    initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph([node], "one_layer", inputs, [output], initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [operator_function(layer.op, OPSET)] if body else []
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


def dense_weight(layer: Int8Layer) -> npt.NDArray[np.int64]:
    """(Cout, Cin, kh, kw), zeros in place."""
    a, values = layer.attrs, layer.tensors["values"].astype(np.int64)
    cout, cin, kh, kw = a["weight_shape"]
    R, S, G, _, V, q = values.shape
    Z, bits, depth = values.shape[3] * q, a["index_bits"], cin * kh * kw
    matrix = np.zeros((R * a["block"], depth + a["block"]), np.int64)
    for r, s, g, z in np.ndindex(R, S, G, Z):
        byte = int(layer.tensors["indices"][r, s, g, z * bits // 8])
        place = byte >> (z * bits % 8) & ((1 << bits) - 1)
        column = int(layer.tensors["blocks"][r, s]) * a["block"] + z // a["n"] * a["m"] + place
        row = r * a["block"] + g * V
        matrix[row : row + V, column] = values[r, s, g, z // q, :, z % q]
    return matrix[:cout, :depth].reshape(cout, kh, kw, cin).transpose(0, 3, 1, 2)


def exact_answer(layer: Int8Layer, feed: dict[str, Bytes]) -> Bytes:
    """What the operator means: whole numbers, then one rounding in double precision."""
    t, a = layer.tensors, layer.attrs
    weight, x = dense_weight(layer), feed["X"].astype(np.int64) - int(t["x_zero"])
    if layer.op == "HybridQGemm":
        sums, axes = x @ weight[:, :, 0, 0].T, (1,)
    else:
        top, left, bottom, right = a["pads"]
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        (sh, sw), (dh, dw), (kh, kw) = a["strides"], a["dilations"], weight.shape[2:]
        steps = zip(x.shape[2:], (kh, kw), (sh, sw), (dh, dw), strict=True)
        out = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in steps]
        sums = np.zeros((x.shape[0], weight.shape[0], *out), np.int64)
        for i, j in np.ndindex(kh, kw):
            window = x[:, :, i * dh : i * dh + sh * (out[0] - 1) + 1 : sh, j * dw : j * dw + sw * (out[1] - 1) + 1 : sw]
            sums += np.einsum("mc,nchw->nmhw", weight[:, :, i, j], window)
        axes = (1, 1, 1)
    sums = sums + t["bias"].astype(np.int64).reshape(-1, *axes[1:])
    real = sums * (np.float64(t["x_scale"]) * t["w_scale"].astype(np.float64)).reshape(-1, *axes[1:])
    if "Z_in" in feed:
        real = real + (feed["Z_in"].astype(np.int64) - int(t["z_zero"])) * np.float64(t["z_scale"])
    bounded = np.minimum(np.maximum(real, a["lower"]), a["upper"])
    return np.clip(np.rint(bounded / layer.scale) + int(t["y_zero"]), 0, 255).astype(np.uint8)


def random_bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> Bytes:
    """Activations, a third of them at one of the ends."""
    found = rng.integers(0, 256, shape, np.uint8)
    return np.where(rng.random(shape) < 0.3, np.where(rng.random(shape) < 0.5, 0, 255), found).astype(np.uint8)


def off_by(answer: Bytes, expected: Bytes) -> tuple[int, float]:
    """The greatest difference in steps, and the share of answers that differ at all."""
    difference = np.abs(answer.astype(np.int64) - expected.astype(np.int64))
    return (int(difference.max()), float((difference > 0).mean())) if difference.size else (0, 0.0)
