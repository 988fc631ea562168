"""The dense rest in int8: ONNX Runtime fuses it, and no two neighbours of a row saturate 16 bits anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.format.node import Grid
from crisp_onnx.model import Model, save, with_value_info
from crisp_onnx.model.answers import open_model
from crisp_onnx.quantize.dense import quantise_dense, reason_against, row_scales, shared_grids
from crisp_onnx.quantize.grids import grid_of
from crisp_onnx.quantize.model import quantise_model, quantised_tensors

NET = """(float[N,3,8,8] x) => (float[N,10] y)
  <float[8,3,3,3] w, float[8] b, float[8,1,3,3] d, float[8] e, float[10,8] f, float[10] g> {
  a = Conv<pads = [1, 1, 1, 1]>(x, w, b)
  r = Relu(a)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  c = Conv<group = 8, pads = [1, 1, 1, 1]>(p, d, e)
  s = Relu(c)
  t = Add(s, p)
  q = GlobalAveragePool(t)
  h = Flatten(q)
  y = Gemm<transB = 1>(h, f, g)
}"""


def grids_for(model: Model) -> dict[str, Grid]:
    def grid(name: str) -> Grid:
        return Grid(0.02, 128) if name in ("x", "y") else Grid(0.08, 0)

    return {name: grid(name) for name in quantised_tensors(model.graph())}


@given(st.integers(0, 10_000), st.sampled_from([(4, 6, 3, 3), (5, 1, 3, 3), (7, 12), (3, 4, 1, 1)]))
def test_no_two_neighbours_of_a_row_add_up_to_more_than_16_bits_hold(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal(shape) * rng.exponential(1, shape)).astype(np.float32)
    scale = row_scales(weight, np.zeros(shape[0], np.float32), 0.1).reshape(-1, *[1] * (weight.ndim - 1))
    whole = np.clip(np.rint(weight / scale), -128, 127)
    assert np.abs(whole).max() <= 127
    if shape[1] > 1:
        for order in (whole, np.moveaxis(whole, 1, -1)):
            flat = order.reshape(len(order), -1)
            assert np.abs(255 * (flat[:, 1:] + flat[:, :-1])).max() <= 32767


def test_a_row_of_zeros_has_a_scale() -> None:
    assert row_scales(np.zeros((3, 4, 1, 1), np.float32), np.zeros(3, np.float32), 0.1).tolist() == [1, 1, 1]


@given(
    st.floats(0, 1e6, width=32), st.floats(0, 1e6, width=32), st.floats(1e-6, 1e6), st.sampled_from([(1, 3), (900, 3)])
)
def test_bias_and_products_of_any_size_fit_32_bits(
    weight: float, bias: float, data: float, columns: tuple[int, int]
) -> None:
    rows = np.full((1, *columns), weight, np.float32)
    scale = float(row_scales(rows, np.array([-bias], np.float32), data)[0])
    assert 0 < scale < np.inf and data * scale > np.finfo(np.float32).tiny
    assert 255 * np.rint(np.abs(rows) / scale).sum() + round(bias / (data * scale)) < 2**31


def test_rows_of_tiny_weights_or_none_keep_their_bias(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    weight, bias = np.zeros((3, 2, 1, 1), np.float32), np.array([0.4, -0.3, 0.45], np.float32)
    weight[2] = 1e-9
    text = "(float[N,2,4,4] x) => (float[N,3,4,4] y) <float[3,2,1,1] w, float[3] b> { y = Conv(x, w, b) }"
    model = with_value_info(model_of(text, w=weight, b=bias))
    found = quantise_model(model, {"x": Grid(1.0, 0), "y": Grid(0.005, 100)}, size=(4, 4))
    assert len(found.layers) == 1
    x = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 4)).astype(np.float32)
    assert np.abs(answers(found.model, x)[0] - bias[:, None, None]).max() <= 0.0026


@pytest.mark.parametrize(("lower", "upper"), [(0.5, 1.5), (-1.5, -0.5), (-0.3, 0.4), (0.0, 6.0)])
def test_a_clip_in_int8_cuts_off_where_it_does(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]], lower: float, upper: float
) -> None:
    text = """(float[N,2,4,4] x) => (float[N,3,4,4] y) <float[3,2,1,1] w, float[3,3,1,1] v, float l, float h> {
      a = Conv(x, w) c = Clip(a, l, h) y = Conv(c, v)
    }"""
    model = with_value_info(model_of(text, l=lower, h=upper))
    grids = {"x": Grid(0.02, 128), "a": Grid(0.05, 128), "c": grid_of(lower, upper), "y": Grid(0.05, 128)}
    found = quantise_model(model, grids, size=(4, 4))
    assert len(found.layers) == 2
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (4, 2, 4, 4)).astype(np.float32)
    one, other = answers(model, x)[0], answers(found.model, x)[0]
    assert np.abs(one - other).max() < 0.1, np.abs(one - other).max()


def test_every_layer_becomes_an_int8_operator_of_the_runtime(model_of: Callable[..., Model], tmp_path: Path) -> None:
    model = with_value_info(model_of(NET))
    found = quantise_model(model, grids_for(model), size=(8, 8))
    assert len(found.layers) == 3 and not found.left
    save(found.model, tmp_path / "int8.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(tmp_path / "int8.onnx"), options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    for op in ("QLinearConv", "MaxPool", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm"):
        assert op in ops, ops
    assert not {"Conv", "Gemm", "Relu", "FusedConv"} & set(ops), ops


def test_the_scores_are_real_numbers_and_near_those_of_float32(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    model = with_value_info(model_of(NET))
    found = quantise_model(model, grids_for(model), size=(8, 8))
    x = np.clip(np.random.default_rng(0).standard_normal((4, 3, 8, 8)), -2.5, 2.5).astype(np.float32)
    (one,), (other,) = answers(model, x), answers(found.model, x)
    assert np.abs(one - other).max() < 0.15 * np.abs(one).max()
    assert len(np.unique(other)) > 30


def test_a_layer_that_is_kept_stays_as_it_is(model_of: Callable[..., Model]) -> None:
    model = with_value_info(model_of(NET))
    conv = next(node for node in model.graph().nodes if node.outputs[0].name == "c")
    found = quantise_model(model, grids_for(model), size=(8, 8), keep={conv.name: "it loses accuracy"})
    assert found.left == {conv.name: "it loses accuracy"}
    assert "d" in {tensor.name for tensor in found.model.proto.graph.initializer}


def test_what_has_no_int8_form_says_why(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,4] x) => (float[N,2] y) <float[4,2] w, float[2] b> { s = Gemm<alpha = 0.5>(x, w, b) y = Softmax(s) }"
    )
    gemm, softmax = model.graph().nodes
    grids = dict.fromkeys(("x", "s", "y"), Grid(0.1, 3))
    assert "scales" in reason_against(gemm, grids)
    assert "Softmax has no int8 form" in reason_against(softmax, grids)
    plain = model_of("(float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul(x, w) }").graph().nodes[0]
    assert reason_against(plain, grids) == ""
    assert "values of 'x'" in reason_against(plain, {"y": Grid(0.1, 3)})


def test_a_layer_takes_the_grid_of_its_activation_and_what_moves_values_keeps_it(
    model_of: Callable[..., Model],
) -> None:
    graph = with_value_info(model_of(NET)).graph()
    own = {name: Grid(1.0 + place, 0) for place, name in enumerate(quantised_tensors(graph))}
    found = shared_grids(graph, own)
    assert found["a"] == found["r"] == found["p"] == own["r"]
    assert found["q"] == found["h"] == own["q"]


@pytest.mark.parametrize(
    ("attributes", "changed"),
    [
        ("ceil_mode = 1, count_include_pad = 1", 1),
        ("ceil_mode = 1, count_include_pad = 1, pads = [1, 1, 0, 0]", 1),
        ("dilations = [1, 1]", 1),
        ("dilations = [2, 2]", 1),
        ("ceil_mode = 1", 0),
        ("count_include_pad = 1, pads = [1, 1, 0, 0]", 0),
    ],
)
def test_pools_between_layers_in_int8_average_as_in_float32(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]], attributes: str, changed: int
) -> None:
    text = f"""(float[N,4,10,10] x) => (float[N,4] y) <float[4,4,1,1] v, float[4,4] w> {{
      a = Conv(x, v)
      p = AveragePool<kernel_shape = [3, 3], strides = [3, 3], {attributes}>(a)
      g = GlobalMaxPool(p)
      f = Flatten(g)
      y = MatMul(f, w)
    }}"""
    model = with_value_info(model_of(text, opset=19, ir=9))
    x = np.random.default_rng(0).uniform(0, 1, (8, 4, 10, 10)).astype(np.float32)
    names = quantised_tensors(model.graph())
    seen = open_model(model, names).run({"x": x}, names)
    grids = {name: grid_of(float(values.min()), float(values.max())) for name, values in seen.items()}
    found = quantise_model(model, grids, size=(10, 10))
    assert len(found.layers) == 2
    assert [node.op for node in found.model.graph().nodes].count("Max") == changed
    session = ort.InferenceSession(found.model.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected, given = answers(model, x)[0], session.run(None, {"x": x})[0]
    assert np.abs(expected - given).max() < 0.03 * np.ptp(expected)


def test_an_image_without_contrast_is_no_reason_against_int8(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    text = """(float[N,8] x) => (float[N,6] y) <float[8,8] v, float[8,6] w, float k> {
      l = ReduceL2<axes = [1]>(x) d = Div(x, l) c = Mul(d, k) a = MatMul(c, v) r = Relu(a) y = MatMul(r, w)
    }"""
    model = with_value_info(model_of(text, k=2))
    grids = {"c": Grid(0.02, 128), "a": Grid(0.01, 0), "r": Grid(0.01, 0), "y": Grid(0.02, 128)}
    found = quantise_model(model, grids, size=(8, 1))
    assert len(found.layers) == 2
    x = np.random.default_rng(0).uniform(-1, 1, (16, 8)).astype(np.float32)
    expected, given = answers(model, x)[0], answers(found.model, x)[0]
    assert np.abs(expected - given).max() < 0.05 * np.ptp(expected)


def test_nothing_to_quantise_leaves_the_model_alone(model_of: Callable[..., Model]) -> None:
    model = with_value_info(model_of(NET))
    assert quantise_dense(model, [], {}, size=(8, 8)) is model


def test_names_that_the_quantiser_uses_itself_may_be_in_the_model(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    names = {"w": "x_scale", "b": "x_zero_point", "r": "a_scale", "p": "r_quantized", "d": "p_QuantizeLinear_Output"}
    names |= {"s": "c_DequantizeLinear_Output", "e": "r_quantized_scale", "t": "g_quantized_zero_point", "g": "f_scale"}
    plain, named = with_value_info(model_of(NET)), with_value_info(model_of(NET, renamed=names))
    x = np.clip(np.random.default_rng(0).standard_normal((4, 3, 8, 8)), -2.5, 2.5).astype(np.float32)
    found = [
        quantise_model(model, {names.get(name, name) if model is named else name: grid for name, grid in grids.items()},
                       size=(8, 8))
        for model, grids in ((plain, grids_for(plain)), (named, grids_for(plain)))
    ]  # fmt: skip
    assert len(found[1].layers) == 3
    np.testing.assert_array_equal(answers(found[0].model, x)[0], answers(found[1].model, x)[0])


def test_so_may_names_of_inputs_and_outputs_which_stay(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    text = """(float[N,8] x) => (float[N,6] y, float[N,6] z) <float[8,6] w, float[6] b, float[6,6] v> {
      s = Gemm(x, w, b) t = Relu(s) y = MatMul(t, v) z = Add(t, b) }"""
    names = {"x": "w_quantized", "y": "t_DequantizeLinear_Output", "z": "t_DequantizeLinear_Output_scale"}
    plain, named = with_value_info(model_of(text)), with_value_info(model_of(text, renamed=names))
    grids = {name: Grid(0.02, 128) if name == "x" else Grid(0.04, 60) for name in quantised_tensors(plain.graph())}
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (16, 8)).astype(np.float32)
    expected = answers(quantise_model(plain, grids, size=(8, 1)).model, x)
    found = quantise_model(named, {names.get(name, name): grid for name, grid in grids.items()}, size=(8, 1)).model
    assert [spec.name for spec in found.outputs] == [names["y"], names["z"]]
    for one, other in zip(expected, answers(found, x), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_product_of_activations_is_no_layer_that_stays_in_float32(model_of: Callable[..., Model]) -> None:
    text = """(float[N,4,8] x) => (float[N,4,6] y) <float[8,8] w, float[8,6] v> {
      q = MatMul(x, w) k = Transpose<perm = [0, 2, 1]>(q) s = MatMul(q, k) p = Softmax(s) o = MatMul(p, q)
      y = MatMul(o, v)
    }"""
    model = with_value_info(model_of(text))
    found = quantise_model(model, dict.fromkeys(quantised_tensors(model.graph()), Grid(0.05, 128)), size=(4, 8))
    assert len(found.layers) == 2 and not found.left


def test_the_scores_of_a_product_with_a_bias_behind_it_are_real_numbers(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    text = "(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[6] b> { s = MatMul(x, w) y = Add(s, b) }"
    model = with_value_info(model_of(text))
    grids = {"x": Grid(0.02, 128), "s": Grid(0.5, 128), "y": Grid(0.5, 128)}
    found = quantise_model(model, grids, size=(8, 1))
    assert len(found.layers) == 1
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (64, 8)).astype(np.float32)
    assert np.abs(answers(model, x)[0] - answers(found.model, x)[0]).max() < 0.1


@pytest.mark.parametrize(("shape", "layers"), [((), 1), ((1,), 1), ((6,), 1), ((1, 6), 1), ((4, 6), 0), ((4, 1), 0)])
def test_a_bias_of_a_gemm_may_have_any_shape(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]], shape: tuple[int, ...], layers: int
) -> None:
    text = "(float[4,8] x) => (float[4,6] y) <float[8,6] w, float[6] b> { r = Relu(x) s = Gemm(r, w, b) y = Relu(s) }"
    bias = np.random.default_rng(1).standard_normal(shape) * 2
    model = with_value_info(model_of(text.replace("float[6] b", f"float{list(shape) or ''} b"), b=bias))
    found = quantise_model(model, dict.fromkeys("xrsy", Grid(0.04, 0)), size=(4, 8))
    assert len(found.layers) == layers and len(found.left) == 1 - layers
    x = np.random.default_rng(0).uniform(0, 2.5, (4, 8)).astype(np.float32)
    assert np.abs(answers(model, x)[0] - answers(found.model, x)[0]).max() < 0.15


@pytest.mark.parametrize(
    "end",
    ["y = Relu(s)", "y = Clip(s, l, h)", "r = Relu(s) y = Softmax(r)", "t = Add(s, b) r = Relu(t) y = Flatten(r)"],
)
def test_an_activation_before_the_answers_stays(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]], end: str
) -> None:
    text = "(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[6] b, float l, float h> { s = Gemm(x, w, b) END }"
    model = with_value_info(model_of(text.replace("END", end), l=0.0, h=1.0))
    grids = {name: Grid(0.02, 128) if name == "x" else Grid(0.04, 0) for name in quantised_tensors(model.graph())}
    found = quantise_model(model, grids, size=(8, 1))
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (64, 8)).astype(np.float32)
    assert np.abs(answers(model, x)[0] - answers(found.model, x)[0]).max() < 0.1


@pytest.mark.parametrize(
    "end",
    [
        "s = Gemm(p, w, b) y = Mul(s, k)",
        "s = Gemm(p, w, b) y = Div(s, k)",
        "s = Gemm(p, w, b) y = Sub(s, k)",
        "s = Gemm(p, w, b) t = Div(s, k) y = Softmax(t)",
        "s = Gemm(p, w, b) y = Tanh(s)",
        "s = Gemm(p, w, b) t = Unsqueeze(s, a) y = Squeeze(t, a)",
        "s = MatMul(p, w) t = Mul(s, k) y = Add(t, b)",
        "s = Gemm(p, w, b) t = Gemm(p, v, b) u = Add(s, t) y = Mul(u, k)",
        "c = Conv(x, m) g = GlobalAveragePool(c) y = Flatten(g)",
        "c = Conv(x, m) r = Relu(c) g = GlobalAveragePool(r) y = Squeeze(g, e)",
        "c = Conv(x, m) g = GlobalAveragePool(c) f = Flatten(g) r = Relu(f) y = Mul(r, k)",
        "s = Gemm(p, w, b) r = Relu(s) t = Mul(r, k) y = Flatten(t)",
        "c = Conv(x, m) r = Clip(c, l, h) g = GlobalAveragePool(r) y = Flatten(g)",
    ],
)
def test_answers_are_told_apart_whatever_scales_moves_or_averages_them(
    end: str, model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    text = """(float[N,8,4,4] x) => (float[N,6] y) <float[8,6] w, float[8,6] v, float[6] b, float k, int64[1] a,
      int64[2] e, float[6,8,1,1] m, float l, float h> { q = GlobalMaxPool(x) p = Flatten(q) END }"""
    model = with_value_info(model_of(text.replace("END", end), k=0.5, a=[1], e=[2, 3], l=0.0, h=0.7))
    x = np.random.default_rng(0).uniform(-1, 1, (400, 8, 4, 4)).astype(np.float32)
    names = quantised_tensors(model.graph())
    seen = open_model(model, names).run({"x": x}, names)
    grids = {name: grid_of(float(values.min()), float(values.max())) for name, values in seen.items()}
    found = quantise_model(model, grids, size=(4, 4))
    assert found.layers
    expected, given = answers(model, x)[0], answers(found.model, x)[0]
    assert len(np.unique(given)) > 300
    assert np.abs(expected - given).max() < 0.05 * np.ptp(expected)
