"""One layer as two small models with the same random weights: hybrid, and dense with zeros in place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import CONV, DOMAIN, GEMM, OPERATORS, VERSION, HybridTensors, Pattern, decode, operator_function
from crisp_onnx.format.node import HybridNode, Window, packed
from crisp_onnx.format.packing import pack

OPSET = 17


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

    @property
    def window(self) -> Window:
        return Window(self.strides, self.pads, self.dilations)

    @property
    def node(self) -> HybridNode:
        """The hybrid operator with Relu."""
        gemm = len(self.input_shape) == 2
        operator, window = OPERATORS[GEMM if gemm else CONV], None if gemm else self.window
        return HybridNode(operator, self.pattern, self.weight_shape, window, lower=0.0)

    @property
    def key(self) -> str:
        """The case in one line, the same for equal cases."""
        p = self.pattern
        sizes = "x".join(map(str, self.weight_shape)), "x".join(map(str, self.input_shape))
        window = ",".join(map(str, (*self.strides, *self.pads, *self.dilations)))
        return f"{sizes[0]} on {sizes[1]} {p} B{p.block} V{p.vector_rows} S{self.kept} window {window}"


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
    return _dense(case, tensors, bias), _hybrid(case, tensors, bias)


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


def _hybrid(case: LayerCase, tensors: HybridTensors, bias: np.ndarray) -> bytes:
    arrays = packed("w", tensors) | {"b": bias}
    node = case.node.proto("layer", ["x", *arrays], "y")
    return _model(case, [node], arrays, [operator_function(node.op_type, OPSET)])


def _model(
    case: LayerCase, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], functions: list[onnx.FunctionProto]
) -> bytes:
    rank = len(case.input_shape)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{axis}" for axis in range(rank)])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid(DOMAIN, VERSION)] if functions else [])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    return bytes(model.SerializeToString())
