"""Stored tensors that several nodes read: each reader has what it is to compute with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crisp_onnx.format import Pattern
from crisp_onnx.format.node import Grid, bias_of, is_hybrid
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.model import Model, weight_layers, with_value_info
from crisp_onnx.model.answers import open_model
from crisp_onnx.passes import EmitHybrid, FuseActivation, run_passes
from crisp_onnx.quantize.grids import grid_of
from crisp_onnx.quantize.model import quantise_model, quantised_tensors
from crisp_onnx.quantize.own_tensors import with_own_tensors

SHARED_BIAS = """(float[N,16,6,6] x) => (float[N,16,6,6] y)
  <float[16,4,3,3] u, float[16,16,1,1] v, float[16,4,3,3] w, float[16] b> {
  a = Conv<group = 4, pads = [1, 1, 1, 1]>(x, u, b)
  r = Relu(a)
  [hybrid] c = Conv(r, v, b)
  y = Conv<group = 4, pads = [1, 1, 1, 1]>(c, w, b)
}"""
TIED = {
    "other sides": """(float[N,8] x) => (float[N,6] y) <float[6,8] w, float[8] b> {
      a = Gemm<transB = 1>(x, w) r = Relu(a) s = Gemm(r, w, b) t = Relu(s) y = Gemm<transB = 1>(t, w) }""",
    "a square": """(float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8] b> {
      a = Gemm<transB = 1>(x, w) r = Relu(a) s = Gemm(r, w, b) y = Relu(s) }""",
    "a weight that is added as well": """(float[N,8] x) => (float[N,8] y) <float[8,8] w, float[1,8] v> {
      a = MatMul(x, w) r = Relu(a) s = Add(r, v) t = MatMul(s, w) u = Relu(t) y = Gemm(u, w, v) }""",
}


def grids_seen(model: Model, x: np.ndarray) -> dict[str, Grid]:
    names = quantised_tensors(model.graph())
    seen = open_model(model, names).run({"x": x}, names)
    return {name: grid_of(float(values.min()), float(values.max())) for name, values in seen.items()}


def in_hybrid(model: Model, name: str, pattern: Pattern) -> Model:
    """The model with every weight of the named layer in a hybrid operator."""
    (layer,) = (layer for layer in weight_layers(model) if layer.name == name)
    kept = np.zeros((pattern.block_rows(layer.shape), pattern.block_columns(layer.shape)), np.int32)
    graph = model.graph()
    every = SparseLayer(layer, pattern, kept, np.ones(layer.shape, np.bool_))
    run_passes((EmitHybrid(Plan((every,))), FuseActivation()), graph)
    return model.with_graph(graph)


def test_a_bias_that_ordinary_and_hybrid_layers_share_is_that_of_each(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    plain = with_value_info(model_of(SHARED_BIAS))
    x = np.random.default_rng(0).uniform(-1, 1, (4, 16, 6, 6)).astype(np.float32)
    hybrid = in_hybrid(plain, "hybrid", Pattern(4, 4, 16, 8))
    found = quantise_model(hybrid, grids_seen(plain, x), size=(6, 6))
    assert len(found.layers) == 3 and not found.left
    expected, given = answers(plain, x)[0], answers(found.model, x)[0]
    assert np.abs(expected - given).max() < 0.05 * np.ptp(expected)
    kept = quantise_model(hybrid, grids_seen(plain, x), size=(6, 6), keep={"hybrid": "it is kept"})
    (node,) = (node for node in kept.model.graph().nodes if is_hybrid(node))
    bias = next(tensor.values for name, tensor in plain.graph().tensors().items() if name == "b")
    np.testing.assert_array_equal(bias_of(node).values, bias)


@pytest.mark.parametrize("tied", TIED)
def test_a_weight_that_layers_read_along_two_axes_has_scales_for_each(
    tied: str, model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    rng = np.random.default_rng(0)
    rows = 2 if tied == "other sides" else 0
    weight = rng.standard_normal((8 - rows, 8)) * np.geomspace(1, 1000, 8)[rows:, None]
    model = with_value_info(model_of(TIED[tied], w=weight))
    x = rng.uniform(-1, 1, (64, 8)).astype(np.float32)
    found = quantise_model(model, grids_seen(model, x), size=(8, 1))
    assert not found.left
    expected, given = answers(model, x)[0], answers(found.model, x)[0]
    assert np.abs(expected - given).max() < 0.05 * np.ptp(expected)


def test_layers_of_one_weight_share_it_still(model_of: Callable[..., Model]) -> None:
    text = """(float[N,8] x) => (float[N,8] y) <float[8,8] w> {
      [one] a = MatMul(x, w) [two] r = MatMul(a, w) [three] y = MatMul(r, w) }"""
    graph = model_of(text).graph()
    with_own_tensors(graph, ("one", "two", "three"))
    assert {node.inputs[1].name for node in graph.nodes} == {"w"}
    with_own_tensors(graph, ("one", "two"))
    assert [node.inputs[1].name for node in graph.nodes] == ["w_1", "w_1", "w"]
