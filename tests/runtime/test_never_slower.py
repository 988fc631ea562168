"""Layers judged beside their real neighbours: seams counted, verdicts that agree, obstacles said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_graphsurgeon as gs
import pytest

from crisp_onnx.format import Pattern, with_bodies
from crisp_onnx.masks import Candidates, Threshold
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.passes import EmitHybrid, run_passes
from crisp_onnx.runtime import never_slower
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.library import Library
from crisp_onnx.runtime.profit import Verdict, judge
from crisp_onnx.runtime.seams import dense_sides

CHAIN = (
    "(float[N,16,8,8] x) => (float[N,16,8,8] y)"
    "<float[16,16,3,3] stem, float[16,16,1,1] a, float[16,16,1,1] b, float[16,16,1,1] c>"
    "{ [stem] s = Conv<pads=[1,1,1,1]>(x, stem) [pool] m = MaxPool<kernel_shape=[1,1]>(s)"
    "  [first] d = Conv(m, a) [relu] r = Relu(d) [second] e = Conv(r, b) [third] y = Conv(e, c) }"
)
Emit = Callable[..., Model]


@pytest.fixture
def emitted(model_of: Callable[..., Model]) -> Emit:
    """The chain with hybrid operators for every layer but the stem and those named."""

    def emit(*dense: str, text: str = CHAIN) -> Model:
        model = model_of(text)
        layers = weight_layers(model, tensor_shapes(model))
        stored = {t.name: t.values for t in model.graph().tensors().values() if isinstance(t, gs.Constant)}
        saliency = {layer.weight: abs(layer.matrix(stored[layer.weight])) for layer in layers}
        reasons = {layer.name: "asked" if layer.name in ("stem", *dense) else "" for layer in layers}
        plan = Threshold(Candidates(layers, Pattern(2, 4, 8, 8), reasons), 0.25).plan(saliency)
        graph = model.graph()
        run_passes((EmitHybrid(plan),), graph)
        return with_bodies(model.with_graph(graph))

    return emit


def test_a_seam_is_where_a_walk_through_light_operators_meets_a_convolution(emitted: Emit) -> None:
    assert dense_sides(emitted().graph()) == {"first": 1, "second": 0, "third": 0}
    assert dense_sides(emitted("second").graph()) == {"first": 2, "third": 1}
    assert dense_sides(emitted().graph(), {"second"}) == {"first": 2, "second": 0, "third": 1}


def test_operators_that_need_the_plain_layout_end_the_walk(emitted: Emit) -> None:
    text = CHAIN.replace("[pool] m = MaxPool<kernel_shape=[1,1]>(s)", "[pool] m = Softmax(s)")
    assert dense_sides(emitted(text=text).graph())["first"] == 0


def with_times(monkeypatch: pytest.MonkeyPatch, times: list[LayerTimes]) -> None:
    """Layers measure as `times`, in the order of the graph."""
    left = iter(times)

    def measured(case: LayerCase) -> Verdict:
        return judge(next(left))

    monkeypatch.setattr(never_slower, "profitable", measured)


def test_a_layer_left_dense_costs_its_neighbours_their_seams(
    emitted: Emit, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The middle layer loses alone; only then does the last one meet a dense neighbour, and loses by the seam.
    with_times(monkeypatch, [LayerTimes(1.0, 0.3, 0.4), LayerTimes(1.0, 1.2, 0.4), LayerTimes(1.0, 0.8, 0.4)])
    choice = never_slower.judge_layers(emitted())
    assert {name: verdict.sparse for name, verdict in choice.verdicts.items()} == {
        "first": True,
        "second": False,
        "third": False,
    }
    assert choice.verdicts["first"].sparse_ms == pytest.approx(0.7)
    assert choice.verdicts["third"].sparse_ms == pytest.approx(1.0)
    assert set(choice.slower) == {"second", "third"}
    assert "stays dense" in choice.slower["third"]


def test_layers_that_all_win_have_no_seams_between_them(
    emitted: Emit, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_times(monkeypatch, [LayerTimes(1.0, 0.7, 0.4)] * 3)
    choice = never_slower.judge_layers(emitted())
    assert [verdict.sparse_ms for verdict in choice.verdicts.values()] == pytest.approx([0.9, 0.7, 0.7])
    assert not choice.slower


def test_without_the_library_nothing_is_measured_and_that_is_said(
    emitted: Emit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(never_slower, "load_library", lambda: Library(None, None, "There is no compiler."))
    choice = never_slower.judge_layers(emitted())
    assert (dict(choice.verdicts), choice.slower, choice.obstacle) == ({}, {}, "There is no compiler.")


def test_layers_are_really_measured(
    emitted: Emit, library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    choice = never_slower.judge_layers(emitted())
    assert list(choice.verdicts) == ["first", "second", "third"]
    assert all(v.times.dense_ms > 0 and v.sparse_ms > 0 for v in choice.verdicts.values())
    kept = list(tmp_path.rglob("layer_times_*/*.json"))
    quiet = [v for v in choice.verdicts.values() if not v.times.noisy]
    assert len(kept) <= len(quiet)  # layers of one shape share a file
    assert bool(kept) == bool(quiet)  # what a busy machine measured is not remembered
