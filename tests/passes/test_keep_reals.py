"""What is left in real numbers is computed so by ONNX Runtime with all its optimisations: no part of it in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from crisp_onnx.format import Pattern, with_bodies
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.model import Model, weight_layers
from crisp_onnx.passes import EmitHybrid, KeepReals, run_pass, run_passes
from crisp_onnx.quantize.whole import pack_whole

STEPS = {name: np.array(value, np.float32) for name, value in (("scale", 0.02), ("y_scale", 0.1))} | {
    name: np.array(value, np.uint8) for name, value in (("zero", 128), ("y_zero", 0))
}
PLACES = {"begin": [0], "end": [5], "axes": [2], "shape": [1, 8, 6, 6]}
PRODUCTS = {
    "Conv": ("c = Conv <pads = [1, 1, 1, 1]> (r, w)", (16, 8, 3, 3), "1, 8, 6, 6"),
    "grouped": ("c = Conv <group = 4> (r, w)", (16, 2, 3, 3), "1, 8, 6, 6"),
    "ConvTranspose": ("c = ConvTranspose (r, w)", (8, 16, 2, 2), "1, 8, 6, 6"),
    "Gemm": ("c = Gemm <transB = 1> (r, w)", (16, 8), "3, 8"),
    "Gemm of a transpose": ("c = Gemm <transA = 1> (r, w)", (8, 16), "8, 3"),
}


MOVES = {
    "Slice": "r = Slice (s, begin, end, axes)",
    "Transpose": "t = Transpose <perm = [0, 1, 3, 2]> (s) r = Transpose <perm = [0, 1, 3, 2]> (t)",
    "Reshape": "r = Reshape (s, shape)",
    "MaxPool": "r = MaxPool <kernel_shape = [2, 2]> (s)",
    "Squeeze": "t = Unsqueeze (s, axes) r = Squeeze (t, axes)",
    "two readers": "r = Slice (s, begin, end, axes) other = Relu (r) z = Identity (other)",
}


def model_of(product: str, weight: tuple[int, ...], shape: str, moved: str = "") -> Model:
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (uint8[{shape}] x) => (float y) {{
          {"s" if moved else "r"} = DequantizeLinear (x, scale, zero)
          {moved}
          [kept] {product}
          d = Relu (c)
          q = QuantizeLinear (d, y_scale, y_zero)
          y = DequantizeLinear (q, y_scale, y_zero)
        }}"""
    )
    values = np.random.default_rng(0).standard_normal(weight).astype(np.float32)
    values.reshape(-1)[0] = 40  # one large weight leaves one scale for all of them few steps for the others
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in {**STEPS, **PLACES, "w": values}.items()
    )
    return Model(proto, Path("g.onnx"), "")


def worst_step(exact: Model, found: Model) -> float:
    """The largest difference of what stock ONNX Runtime gives for `found`, in steps, from `exact` as it is written."""
    rng = np.random.default_rng(1)
    shape = [axis.dim_value for axis in exact.proto.graph.input[0].type.tensor_type.shape.dim]
    x = rng.integers(0, 256, shape).astype(np.uint8)
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = ort.InferenceSession(exact.proto.SerializeToString(), plain).run(None, {"x": x})[0]
    given = ort.InferenceSession(found.proto.SerializeToString()).run(None, {"x": x})[0]
    return float(np.abs(given - expected).max() / 0.1)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_product_that_reads_bytes_is_not_made_int8(product: str) -> None:
    model = model_of(*PRODUCTS[product])
    graph = model.graph()
    assert run_pass(KeepReals(), graph).changed == 1
    assert worst_step(model, model.with_graph(graph)) <= 1.001
    assert [node.op for node in graph.nodes].count("DequantizeLinear") == 2


@pytest.mark.parametrize("product", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("moved", MOVES)
def test_a_product_behind_moved_bytes_is_not_made_int8(product: str, moved: str) -> None:
    model = model_of(*PRODUCTS[product], MOVES[moved])
    graph = model.graph()
    assert run_pass(KeepReals(), graph).changed == 1
    assert worst_step(model, model.with_graph(graph)) <= 1.001


def test_onnx_runtime_would_make_it_int8_otherwise() -> None:
    model = model_of(*PRODUCTS["Conv"])
    assert worst_step(model, model) > 5


def test_the_body_of_a_hybrid_layer_in_real_numbers_is_not_made_int8() -> None:
    model = model_of(*PRODUCTS["Conv"])
    graph = model.graph()
    pack_whole(model, graph, {"kept"})
    assert worst_step(model, with_bodies(model.with_graph(graph.copy()))) > 5
    assert run_pass(KeepReals(), graph).changed == 1
    assert worst_step(model, with_bodies(model.with_graph(graph))) <= 1.001


def test_a_hybrid_product_of_token_sequences_has_a_step_a_column() -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (uint8[2, 5, 8] x) => (float[2, 5, 16] y) {
          r = DequantizeLinear (x, scale, zero)
          [kept] y = MatMul (r, w)
        }"""
    )
    w = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    arrays = {name: STEPS[name] for name in ("scale", "zero")} | {"w": w}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    model = Model(proto, Path("g.onnx"), "")
    (layer,) = weight_layers(model)
    pattern = Pattern(4, 4, 8, 8)
    every = SparseLayer(layer, pattern, np.zeros((2, 1), np.int32), np.ones(layer.shape, np.bool_))
    graph = model.graph()
    run_passes((EmitHybrid(Plan((every,))), KeepReals()), graph)
    assert {node.op for node in graph.nodes} == {"HybridGemm", "DequantizeLinear"}
    assert worst_step(model, with_bodies(model.with_graph(graph))) < 1e-3


def test_a_layer_that_reads_bytes_beside_one_in_int8_has_its_own_dequantize() -> None:
    model = model_of(*PRODUCTS["Conv"])
    graph = model.graph()
    real = graph.tensors()["r"]
    other = gs.Variable("other", np.float32)
    graph.nodes.append(gs.Node("Relu", "beside", {}, [real], [other]))
    graph.outputs.append(other)
    assert run_pass(KeepReals(), graph).changed == 1
    assert graph.tensors()["r"].outputs[0].op == "Relu"
