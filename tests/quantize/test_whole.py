"""Convolutions that keep all their weights run in our int8 kernels where those are faster, with the same answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crisp_onnx.format.node import Grid
from crisp_onnx.model import Model, with_value_info
from crisp_onnx.quantize import whole
from crisp_onnx.quantize.model import quantise_model, quantised_tensors
from crisp_onnx.quantize.whole import faster_whole, first_in_float32
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.profit import Verdict

NET = """(float[N,3,12,12] x) => (float[N,10] y)
  <float[20,3,5,5] w, float[20] b, float[20,1,3,3] d, float[20] e, float[8,20,1,1] v, float[10,8] f, float[10] g> {
  [first] a = Conv<pads = [2, 2, 2, 2], strides = [2, 2]>(x, w, b)
  r = Relu(a)
  [depthwise] c = Conv<group = 20, pads = [1, 1, 1, 1]>(r, d, e)
  [last] s = Conv<dilations = [2, 2]>(c, v)
  q = GlobalAveragePool(s)
  h = Flatten(q)
  y = Gemm<transB = 1>(h, f, g)
}"""


def judged(sparse: bool, seen: list[LayerCase]) -> Callable[[LayerCase], Verdict]:
    def verdict(case: LayerCase) -> Verdict:
        seen.append(case)
        return Verdict(sparse, LayerTimes(2.0, 1.0, 0.0), 1.0, "told")

    return verdict


@pytest.mark.parametrize("faster", [True, False])
def test_every_ordinary_convolution_is_judged_as_a_layer_of_bytes(
    faster: bool, model_of: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LayerCase] = []
    monkeypatch.setattr(whole, "profitable", judged(faster, seen))
    found = faster_whole(with_value_info(model_of(NET)), size=(12, 12))
    assert found == ({"first", "last"} if faster else set())
    assert [case.weight_shape for case in seen] == [(20, 3, 5, 5), (8, 20, 1, 1)]
    assert [case.input_shape for case in seen] == [(1, 3, 12, 12), (1, 20, 6, 6)]
    assert [case.kept for case in seen] == [5, 2]
    assert (seen[0].strides, seen[0].pads, seen[1].dilations) == ((2, 2), (2, 2, 2, 2), (2, 2))
    assert {case.element for case in seen} == {"int8"}


@pytest.mark.parametrize(("float32_ms", "kept"), [(0.9, True), (1.0, True), (1.1, False)])
def test_the_first_convolution_stays_in_float32_where_bytes_are_not_faster(
    float32_ms: float, kept: bool, model_of: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def told(key: str, measure: object) -> LayerTimes:
        asked.append(key)
        return LayerTimes(float32_ms, 1.0, 0.0)

    monkeypatch.setattr(whole, "recalled", told)
    found = first_in_float32(with_value_info(model_of(NET)), {"first"}, size=(12, 12))
    assert found == ({"first": f"timed alone: {float32_ms:.3f} ms in float32, 1.000 ms in int8"} if kept else {})
    assert len(asked) == 1
    assert asked[0].endswith("int8, first, packed, 1 threads")


def test_a_packed_convolution_gives_what_the_ordinary_one_gives(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    model = with_value_info(model_of(NET))
    grids = {name: Grid(0.03, 128) for name in quantised_tensors(model.graph())} | {"r": Grid(0.03, 0)}
    keep = {"last": "it loses accuracy"}
    plain = quantise_model(model, grids, size=(12, 12), keep=keep)
    packed = quantise_model(model, grids, size=(12, 12), whole={"first", "last"}, keep=keep)
    ops = {node.name: node.op_type for node in packed.model.proto.graph.node}
    assert (ops["first"], ops["last"], ops["depthwise"]) == ("HybridQConv", "Conv", "QDepthwiseConv")
    assert set(packed.layers) == set(plain.layers)
    x = np.clip(np.random.default_rng(0).standard_normal((4, 3, 12, 12)), -3.5, 3.5).astype(np.float32)
    (one,), (other,) = (answers(found, x) for found in (plain.model, packed.model))
    assert np.abs(other - one).max() < 0.05 * np.abs(one).max()


def test_a_layer_whose_output_is_one_of_the_graph_and_is_read_besides_computes_on_bytes(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    model = with_value_info(
        model_of("""(float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,16,8,8] r) <float[16,3,3,3] w, float[4,16,1,1] v> {
          [first] a = Conv<pads = [1, 1, 1, 1]>(x, w)
          r = Relu(a)
          [last] y = Conv(r, v)
        }""")
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    expected = answers(model, x)
    y, r = (float(np.abs(answer).max()) for answer in expected)
    steps = {"x": Grid(0.04, 128), "a": Grid(r / 127, 128), "r": Grid(r / 255, 0), "y": Grid(y / 127, 128)}
    assert steps.keys() == set(quantised_tensors(model.graph()))
    found = quantise_model(model, steps, size=(8, 8), whole={"first"})
    assert set(found.layers) == {"first", "last"} and not found.left
    assert {node.name: node.op_type for node in found.model.proto.graph.node}["first"] == "HybridQConv"
    assert [output.name for output in found.model.proto.graph.output] == ["y", "r"]
    for int8, float32 in zip(answers(found.model, x), expected, strict=True):
        assert np.abs(int8 - float32).max() < 0.05 * np.abs(float32).max()
