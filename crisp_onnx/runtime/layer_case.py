"""One layer as two small models with the same random weights: hybrid, and dense with zeros in place.

In int8 both take and give bytes; the dense one is what ONNX Runtime makes of QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import (
    CONV,
    DOMAIN,
    GEMM,
    OPERATORS,
    VERSION,
    HybridTensors,
    Pattern,
    decode,
    in_int8,
    operator_function,
)
from crisp_onnx.format.int8_weight import int8_weight
from crisp_onnx.format.node import Grid, HybridNode, Int8Weight, Window, packed
from crisp_onnx.format.packing import in_lanes, pack
from crisp_onnx.runtime.library import Element

OPSET = 17
X_GRID_OF, Y_GRID_OF = Grid(0.02, 128), Grid(0.02, 0)
"""Of the bytes that an int8 layer takes and gives when it is timed."""


@dataclass(frozen=True)
class LayerCase:
    """What decides a layer's time.

    `weight_shape` (Cout, Cin, kh, kw); `input_shape` (N, Cin, H, W), or (rows, Cin) of a Gemm; `kept` blocks of every
    block row.
    """

    weight_shape: tuple[int, int, int, int]
    input_shape: tuple[int, ...]
    pattern: Pattern
    kept: int
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    element: Element = "float32"

    @property
    def window(self) -> Window:
        return Window(self.strides, self.pads, self.dilations)

    @property
    def node(self) -> HybridNode:
        """The hybrid operator with Relu."""
        gemm = len(self.input_shape) == 2
        operator, window = OPERATORS[GEMM if gemm else CONV], None if gemm else self.window
        if self.element == "int8":
            operator = in_int8(operator)
        return HybridNode(operator, self.pattern, self.weight_shape, window, lower=0.0)

    @property
    def key(self) -> str:
        """The case in one line, the same for equal cases."""
        p = self.pattern
        sizes = "x".join(map(str, self.weight_shape)), "x".join(map(str, self.input_shape))
        window = ",".join(map(str, (*self.strides, *self.pads, *self.dilations)))
        element = "" if self.element == "float32" else f" {self.element}"
        return f"{sizes[0]} on {sizes[1]} {p} B{p.block} V{p.vector_rows} S{self.kept} window {window}{element}"

    def feed(self, seed: int = 0) -> npt.NDArray[Any]:
        """A seeded input of the layer."""
        rng = np.random.default_rng(seed)
        if self.element == "int8":
            return rng.integers(0, 256, self.input_shape).astype(np.uint8)
        return rng.standard_normal(self.input_shape, dtype=np.float32)


def random_tensors(
    rng: np.random.Generator, weight_shape: tuple[int, ...], pattern: Pattern, kept: int
) -> HybridTensors:
    """Random values and places of a weight (Cout, Cin, kh, kw), scaled so that activations keep their size."""
    p, depth = pattern, int(np.prod(weight_shape[1:]))
    R, C = p.block_rows(weight_shape), p.block_columns(weight_shape)
    blocks = np.sort(np.argsort(rng.random((R, C)))[:, :kept], axis=1).astype(np.int32)
    places = np.sort(np.argsort(rng.random((R, kept, p.row_groups, p.block // p.m, p.m)))[..., : p.n], axis=-1)
    places = places.reshape(R, kept, p.row_groups, p.kept_columns)
    scale = np.float32(math.sqrt(2 / (kept * p.kept_columns)))
    values = rng.standard_normal((*places.shape, p.vector_rows), dtype=np.float32) * scale
    column = blocks[:, :, None, None].astype(np.int64) * p.block + places
    values[column + np.arange(p.kept_columns) // p.n * p.m >= depth] = 0
    return HybridTensors(values, pack(places, p.index_bits), blocks)


def dense_and_hybrid(case: LayerCase, seed: int = 0) -> tuple[bytes, bytes]:
    """The layer with Relu, twice: with the standard operator and with the hybrid one. Input `x`, output `y`."""
    rng = np.random.default_rng(seed)
    tensors = random_tensors(rng, case.weight_shape, case.pattern, case.kept)
    bias = rng.standard_normal(case.weight_shape[0], dtype=np.float32)
    if case.element == "int8":
        weight = _halved(int8_weight(tensors, bias, X_GRID_OF.scale, case.weight_shape[0]))
        return _dense_int8(case, weight), _hybrid_int8(case, weight)
    return _dense(case, tensors, bias), _hybrid(case, tensors, bias)


def _halved(weight: Int8Weight) -> Int8Weight:
    """Of half as many steps: the runtime then saturates no sum of two neighbours, whatever the processor."""
    tensors = replace(weight.tensors, values=(weight.tensors.values // 2).astype(np.int8))
    return replace(weight, tensors=tensors, scale=weight.scale * 2)


def _dense(case: LayerCase, tensors: HybridTensors, bias: np.ndarray) -> bytes:
    weight = np.ascontiguousarray(decode(tensors, case.weight_shape, case.pattern), dtype=np.float32)
    if len(case.input_shape) == 2:
        node = helper.make_node("Gemm", ["x", "w", "b"], ["s"], name="layer", transB=1)
        weight = weight.reshape(case.weight_shape[:2])
    else:
        window: dict[str, Any] = case.window.attributes
        node = helper.make_node("Conv", ["x", "w", "b"], ["s"], name="layer", **window)
    relu = helper.make_node("Relu", ["s"], ["y"], name="relu")
    return _model(case, [node, relu], {"w": weight, "b": bias}, [])


def _dense_int8(case: LayerCase, weight: Int8Weight) -> bytes:
    """Bytes in, bytes out; the zero point of the output is 0, which is the layer's Relu."""
    whole = np.ascontiguousarray(decode(weight.tensors, case.weight_shape, case.pattern), dtype=np.int8)
    gemm = len(case.input_shape) == 2
    arrays = {
        **_grids(("xs", "xz", "ys", "yz")),
        "w8": whole.reshape(case.weight_shape[:2]) if gemm else whole,
        "ws": weight.scale,
        "wz": np.zeros(len(weight.scale), np.int8),
        "b32": weight.bias,
        "bs": (weight.scale * np.float32(X_GRID_OF.scale)).astype(np.float32),
        "bz": np.zeros(len(weight.scale), np.int32),
    }
    inputs = ["real", "w", "b"]
    window: dict[str, Any] = {} if gemm else case.window.attributes
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["real"]),
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["b32", "bs", "bz"], ["b"], axis=0),
        helper.make_node("Gemm", inputs, ["s"], name="layer", transB=1)
        if gemm
        else helper.make_node("Conv", inputs, ["s"], name="layer", **window),
        helper.make_node("QuantizeLinear", ["s", "ys", "yz"], ["y"]),
    ]
    return _model(case, nodes, arrays, [])


def _hybrid_int8(case: LayerCase, weight: Int8Weight) -> bytes:
    lanes = HybridTensors(in_lanes(weight.tensors.values), weight.tensors.indices, weight.tensors.blocks)
    data, out = _grids(("xs", "xz")), _grids(("ys", "yz"))
    arrays = {**data, **packed("w", lanes), "ws": weight.scale, "b32": weight.bias, **out}
    node = case.node.proto("layer", ["x", *arrays], "y")
    return _model(case, [node], arrays, [operator_function(node.op_type, OPSET)])


def _grids(names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    grids = {"x": X_GRID_OF, "y": Y_GRID_OF}
    return {
        name: np.array(grids[name[0]].scale, np.float32) if name[1] == "s" else np.array(grids[name[0]].zero, np.uint8)
        for name in names
    }


def _hybrid(case: LayerCase, tensors: HybridTensors, bias: np.ndarray) -> bytes:
    arrays = packed("w", tensors) | {"b": bias}
    node = case.node.proto("layer", ["x", *arrays], "y")
    return _model(case, [node], arrays, [operator_function(node.op_type, OPSET)])


def _model(
    case: LayerCase, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], functions: list[onnx.FunctionProto]
) -> bytes:
    rank = len(case.input_shape)
    element = TensorProto.UINT8 if case.element == "int8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, case.input_shape)],
        [helper.make_tensor_value_info("y", element, [f"y{axis}" for axis in range(rank)])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid(DOMAIN, VERSION)] if functions else [])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    return bytes(model.SerializeToString())
