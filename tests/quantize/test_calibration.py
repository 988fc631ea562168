"""Calibration: what is seen of tensors, and what becomes of those that bytes cannot hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crisp_onnx.data import Images
from crisp_onnx.data.values import AsIs, ValueStore
from crisp_onnx.model import Model, with_value_info
from crisp_onnx.quantize.calibration import look_at
from crisp_onnx.quantize.grids import grids_by
from crisp_onnx.quantize.model import quantise_model, quantised_tensors

MASKED = """(float[N,4] x) => (float[N,4] y) <float[4,4] v, float[4,4] w, float[4] mask> {
  a = MatMul(x, v)
  m = Add(a, mask)
  s = Softmax<axis = 1>(m)
  y = MatMul(s, w)
}"""


def test_what_reads_values_that_are_not_finite_stays_in_real_numbers_and_the_rest_does_not(
    model_of: Callable[..., Model],
) -> None:
    mask = np.array([0, -np.inf, 0, 0], np.float32)
    model = with_value_info(model_of(MASKED, mask=mask))
    graph = model.graph()
    seen = look_at(model, quantised_tensors(graph), images())
    assert "m" not in seen and {"x", "a", "s", "y"} <= seen.keys()
    found = quantise_model(model, grids_by("range", seen), size=(1, 1))
    assert len(found.layers) == 2 and not found.left
    nodes = {node.op: node for node in found.model.graph().nodes}
    assert nodes["Add"].inputs[0].inputs[0].op == "DequantizeLinear"


def images() -> Images:
    store = ValueStore(np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32), "noise")
    return Images(store, np.arange(8), None, AsIs((4,), np.dtype(np.float32), None), "noise")


UNMEASURED = """(float[N,4] x) => (float[N,4] y) <float[4,4] v, float[4,4] w, float nothing, int64[1] none> {
  a = MatMul(x, v)
  n = Sqrt(a)
  r = Relu(n)
  positive = Greater(a, nothing)
  p = Where(positive, r, nothing)
  e = Slice(a, none, none)
  t = Relu(e)
  u = ReduceSum(t)
  q = Add(p, u)
  y = MatMul(q, w)
}"""


def test_neither_what_is_no_number_nor_what_holds_none_is_seen(model_of: Callable[..., Model]) -> None:
    model = with_value_info(model_of(UNMEASURED, nothing=0, none=[0]))
    seen = look_at(model, quantised_tensors(model.graph()), images(), batch=2)
    assert {"r", "e", "t"}.isdisjoint(seen) and {"x", "a", "y"} <= seen.keys()
    found = quantise_model(model, grids_by("range", seen), size=(1, 1))
    assert len(found.layers) == 2
