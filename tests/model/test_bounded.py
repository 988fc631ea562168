"""Graphs that say how much they are run at once; the others run once with limits, or are refused in a sentence."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from small_models import residual_classifier

from crisp_onnx.confined import Limits
from crisp_onnx.errors import CrispError
from crisp_onnx.model import bounded, load
from crisp_onnx.model.bounded import MEMORY_BYTES, require_bounded
from crisp_onnx.model.forecast import FREE_BYTES, Forecast, forecast

HEAD = "(float[N,3,8,8] x) => (float[N,4] y) <float[4,192] w"
BODY = """{
  flat = Flatten(x)
  %s
  scores = Gemm<transB=1>(flat, w)
  y = Add(scores, extra)
}"""
ENDLESS = """extra = Loop(trips, go, zero)<body = b (int64 i, bool c, float[1] v) => (bool d, float[1] u) {
    d = Identity(c)
    u = Add(v, v)
  }>"""
RUNTIME = """
  top = ReduceMax<keepdims=0>(x)
  large = Max(top, a_billion)
  count = Cast<to=7>(large)
  size = Reshape(count, flat_shape)
"""
BIG = RUNTIME + "big = %s\n  real = Cast<to=1>(big)\n  extra = ReduceMean<keepdims=0>(real)"
SIZES = ", float a_billion = {1e9}, int64[1] flat_shape = {-1}, int64 zero = {0}, int64 one = {1}, float[1] ones = {1}>"


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(bounded, "_limits", lambda told: Limits(memory_bytes=3 << 30, processor_s=5))


def saved(model, folder):
    path = folder / "m.onnx"
    onnx.save(model.proto, path)
    return replace(model, path=path)


def test_an_ordinary_classifier_needs_no_process_of_its_own(tmp_path):
    assert forecast(load(residual_classifier(tmp_path / "m.onnx")), MEMORY_BYTES).why == ""


def test_a_shape_computed_from_the_batch_needs_none_either(model_of):
    model = model_of(
        HEAD + ", int64[1] zero = {0}, int64[1] one = {1}, int64[1] rest = {-1}>"
        "{ s = Shape(x) \n n = Slice(s, zero, one) \n t = Concat<axis=0>(n, rest) \n f = Reshape(x, t)"
        "\n y = Gemm<transB=1>(f, w) }"
    )
    assert forecast(model, MEMORY_BYTES).why == ""


def test_an_endless_loop_is_refused_in_a_sentence(model_of, tmp_path, small_limits):
    values = f", int64 trips = {{{2**62}}}, bool go = {{1}}, float[1] zero = {{0}}>"
    model = saved(model_of(HEAD + values + BODY % ENDLESS), tmp_path)
    with pytest.raises(CrispError, match=r"running it on one input takes more than 5 s of processor time \(Loop node"):
        require_bounded(model)


def test_a_short_loop_is_run_once_and_taken(model_of, tmp_path):
    values = ", int64 trips = {3}, bool go = {1}, float[1] zero = {0}>"
    model = saved(model_of(HEAD + values + BODY % ENDLESS), tmp_path)
    assert "holds a graph" in forecast(model, MEMORY_BYTES).why
    require_bounded(model)


@pytest.mark.parametrize(
    "call", ["Range(zero, count, one)", "Expand(ones, size)", "Tile(ones, size)", "ConstantOfShape(size)"]
)
def test_a_tensor_that_grows_while_the_graph_runs_is_refused(model_of, tmp_path, small_limits, call):
    model = saved(model_of(HEAD + SIZES + BODY % (BIG % call)), tmp_path)
    with pytest.raises(CrispError, match=r"takes more than 3\.2 GB of memory \((the size of tensor|its shapes)"):
        require_bounded(model)


@pytest.fixture
def no_process(monkeypatch):
    def never(*call):
        raise AssertionError("what the shapes say needs no process of its own")

    monkeypatch.setattr(bounded, "excess", never)


def test_shapes_that_double_node_by_node_are_not_carried_along(model_of, no_process):
    doubled = "s0 = Shape(x)\n" + "".join(f"  s{i + 1} = Concat<axis=0>(s{i}, s{i})\n" for i in range(40))
    model = model_of(HEAD + ">" + BODY % (doubled + "  real = Cast<to=1>(s40)\n  extra = ReduceMean<keepdims=0>(real)"))
    with pytest.raises(CrispError, match=r"takes too much memory \(its shapes are computed from lists of"):
        require_bounded(model)


@pytest.mark.parametrize(
    "call", ["Cast<to=1>(list)", "Add(list, list)", "Unsqueeze(list, zero)", "Slice(list, zero, count)"]
)
def test_a_long_list_is_not_carried_along(model_of, no_process, call):
    model = model_of(
        HEAD + ", int64[1] count = {67108864}, int64[1] zero = {0}>"
        + BODY % f"list = ConstantOfShape(count)\n  z = {call}\n  extra = ReduceMean<keepdims=0>(z)"
    )  # fmt: skip
    with pytest.raises(CrispError, match=r"takes too much memory \(its shapes are computed from lists of"):
        require_bounded(model)


ONES = ", float[1] ones = {1}, int64[1] many = {%d}>"


@pytest.mark.parametrize(
    ("values", "nodes"),
    [
        (ONES % (1 << 32), "big = Expand(ones, many)\n"),
        (ONES % (1 << 32), "big = ConstantOfShape(many)\n"),
        (
            ONES % 1,
            "b0 = Unsqueeze(ones, many)\n"
            + "".join(f"  b{i + 1} = Concat<axis=0>(b{i}, b{i})\n" for i in range(30))
            + "  big = Identity(b30)\n",
        ),
        (
            ONES % (1 << 22),
            "".join(f"  e{i} = ConstantOfShape(many)\n" for i in range(100))
            + f"  big = Sum({', '.join(f'e{i}' for i in range(100))})\n",
        ),
    ],
    ids=["expand", "constant of shape", "doubled", "many"],
)
def test_much_computed_of_stored_values_alone_is_refused_before_any_of_it_is(model_of, no_process, values, nodes):
    model = model_of(HEAD + values + BODY % (nodes + "  extra = ReduceMean<keepdims=0>(big)"))
    with pytest.raises(CrispError, match=r"takes more than 1\.1 GB of memory \(what it computes of its stored values"):
        require_bounded(model)


def test_tensors_that_the_memory_cannot_hold_are_refused_before_any_of_them_is(model_of, no_process):
    tiled = "tall = Tile(flat, times)\n  extra = ReduceMean<keepdims=0>(tall)"
    model = model_of(HEAD + ", int64[2] times = {16777216, 1}>" + BODY % tiled)
    with pytest.raises(CrispError, match=r"memory \(its tensors hold 3\.2e\+09 values"):
        require_bounded(model)


def test_a_small_file_of_unknown_sizes_is_allowed_less_memory_than_a_large_one() -> None:
    small, large = (Forecast("unknown", "", sized=False, unasked_bytes=unasked) for unasked in (FREE_BYTES, 1 << 40))
    limits = [bounded._limits(told).memory_bytes for told in (small, large, Forecast("much"))]
    assert limits[0] == FREE_BYTES + bounded.PROCESS_BYTES
    assert limits[0] < limits[1] == limits[2]


def test_much_work_that_the_shapes_tell_is_said_ahead(model_of):
    wide = """tall = Transpose<perm=[1,0]>(flat)
  row = Tile(tall, times)
  square = MatMul(row, twin)
  more = MatMul(square, square)
  extra = ReduceMean<keepdims=0>(more)"""
    model = model_of(HEAD + ", int64[2] times = {100, 1}, float[1,19200] twin>" + BODY % wide)
    told = forecast(model, MEMORY_BYTES)
    assert "multiplications" in told.why
    assert not told.excess
