"""The rule that decides sparse or dense, its cache, and the measurement under it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime import layer_times, profit
from crisp_onnx.runtime.bench import bench
from crisp_onnx.runtime.hybrid_nodes import hybrid_nodes
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer
from crisp_onnx.say_once import say_once
from crisp_onnx.store import Store

CONV = LayerCase((32, 16, 3, 3), (1, 16, 14, 14), Pattern(), 2, pads=(1, 1, 1, 1))
GEMM = LayerCase((40, 64, 1, 1), (3, 64), Pattern(), 1)


@pytest.mark.parametrize("case", [CONV, GEMM])
def test_both_forms_of_a_case_give_the_same_answers(case: LayerCase) -> None:
    x = np.random.default_rng(0).standard_normal(case.input_shape, dtype=np.float32)
    dense, hybrid = (
        ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for model in dense_and_hybrid(case)
    )
    assert np.abs(dense - hybrid).max() < 1e-4
    assert dense.max() > 0


def test_a_layer_is_sparse_only_when_that_is_faster() -> None:
    assert profit.judge(LayerTimes(1.0, 0.5, 0.2)).sparse
    assert profit.judge(LayerTimes(1.0, 0.7, 0.2), dense_neighbours=2).sparse
    assert not profit.judge(LayerTimes(1.0, 0.8, 0.3), dense_neighbours=2).sparse
    assert not profit.judge(LayerTimes(1.0, 0.99, 0.0)).sparse
    assert "stays dense" in profit.judge(LayerTimes(1.0, 2.0, 0.0)).reason


def test_a_measurement_is_made_once_and_remembered(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(case: LayerCase, *, threads: int) -> LayerTimes:
        measured.append(case)
        return LayerTimes(2.0, 1.0, 0.0)

    monkeypatch.setattr(profit, "measure_layer", measure)
    known = Store(tmp_path / "deep")
    assert profit.profitable(CONV, known=known) == profit.profitable(CONV, known=known)
    assert measured == [CONV]
    profit.profitable(GEMM, known=known)
    assert measured == [CONV, GEMM]
    assert len(list((tmp_path / "deep").iterdir())) == 2


def test_a_damaged_cache_is_measured_anew(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profit, "measure_layer", lambda case, threads: LayerTimes(2.0, 1.0, 0.0))
    known = Store(tmp_path)
    key = f"{CONV.key}, 1 threads"
    whole = {"dense_ms": 1.0, "hybrid_ms": 1.0, "seam_ms": 0.0}
    for damage in ([], 3, "text", {"dense_ms": 1.0}, whole | {"dense_ms": -1.0}, whole | {"dense_ms": "1"},
                   whole | {"dense_ms": float("nan")}, whole | {"dense_ms": 10**400}, whole | {"more": 1}):  # fmt: skip
        known.put(key, damage)
        assert profit.profitable(CONV, known=known).sparse
        assert profit.profitable(CONV, known=known).times == LayerTimes(2.0, 1.0, 0.0)


def test_what_a_noisy_machine_measured_is_not_remembered(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([LayerTimes(2.0, 3.0, 0.0, noisy=True), LayerTimes(2.0, 1.0, 0.0)])
    monkeypatch.setattr(profit, "measure_layer", lambda case, threads: next(found))
    known = Store(tmp_path)
    assert not profit.profitable(CONV, known=known).sparse
    assert profit.profitable(CONV, known=known).sparse
    assert profit.profitable(CONV, known=known).sparse, "the calm measurement is remembered"


def test_a_cache_that_cannot_be_kept_is_said_once(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(profit, "measure_layer", lambda case, threads: LayerTimes(2.0, 1.0, 0.0))
    say_once.cache_clear()
    (tmp_path / "a file").write_text("")
    with caplog.at_level(logging.WARNING):
        for case in (CONV, GEMM):
            assert profit.profitable(case, known=Store(tmp_path / "a file")).sparse
    said = [record.message for record in caplog.records]
    assert len(said) == len(set(said)) == 2
    assert "cannot be read" in said[0]
    assert "cannot be kept" in said[1]


def rounds_of(*pairs: tuple[float, float]) -> list[tuple[layer_times.Turn, ...]]:
    """A round for every pair of dense and hybrid milliseconds, in ten runs each."""
    return [tuple((np.full(10, ms), np.zeros(10)) for ms in pair) for pair in pairs]


def test_a_noisy_measurement_goes_on_and_all_its_rounds_count(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([rounds_of((1.0, 1.0), (3.0, 1.0), (1.0, 2.0)), rounds_of(*[(1.0, 0.5)] * 9)])
    monkeypatch.setattr(layer_times, "take_turns", lambda *_, **__: next(found))
    monkeypatch.setattr(layer_times, "LEAST_SPENT", 0.0)  # turns that take no time tell nothing of the processor
    assert measure_layer(CONV) == LayerTimes(1.0, 0.5, 0.0)
    always = rounds_of((1.0, 1.0), (3.0, 1.0), (1.0, 2.0))
    asked = []
    monkeypatch.setattr(layer_times, "take_turns", lambda *_, **__: asked.append(1) or always)
    assert measure_layer(CONV).noisy
    assert len(asked) == layer_times.TRIES


def test_times_are_medians_over_rounds_so_that_a_disturbed_turn_does_not_count() -> None:
    calm, disturbed = rounds_of((1.0, 0.5)), rounds_of((1.0, 4.0))
    assert layer_times.summarize_layer([*calm * 4, *disturbed]) == LayerTimes(1.0, 0.5, 0.0)


def test_a_layer_measured_amid_noise_needs_a_clearer_lead() -> None:
    assert profit.judge(LayerTimes(1.0, 0.9, 0.0)).sparse
    assert not profit.judge(LayerTimes(1.0, 0.9, 0.0, noisy=True)).sparse
    assert profit.judge(LayerTimes(1.0, 0.75, 0.0, noisy=True)).sparse


def test_times_come_from_the_runtimes_own_profile(library: Path) -> None:
    times = measure_layer(CONV, budget_s=0.02)
    assert times.dense_ms > 0
    assert times.hybrid_ms > 0
    assert times.seam_ms >= 0


def test_bench_compares_a_model_with_its_dense_self(tmp_path: Path, library: Path) -> None:
    model = tmp_path / "layer.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(CONV)[1]), model)
    result = bench(model, per_layer=True, budget_s=0.05)
    assert [(c.threads, c.batch) for c in result.comparisons] == [(1, 1)]
    assert result.comparisons[0].speedup > 0
    assert result.layers is not None
    assert [(layer.node, layer.kernel[:10]) for layer in result.layers.layers] == [("layer", "f32_hybrid")]
    with pytest.raises(CrispError, match="1 or more"):
        bench(model, threads=(0,))


def test_hybrid_nodes_know_the_shape_of_their_input(tmp_path: Path) -> None:
    model = tmp_path / "layer.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(CONV)[1]), model)
    (node,) = hybrid_nodes(model)
    assert node.case == CONV
    assert node.positions == 196


def test_without_a_home_layers_are_timed_and_that_is_said(
    library: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(profit, "cache_folder", lambda: None)
    monkeypatch.setattr(profit, "measure_layer", lambda case, threads: LayerTimes(2.0, 1.0, 0.0))
    say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert profit.profitable(CONV).sparse
        assert profit.profitable(GEMM).sparse
    assert [record.message for record in caplog.records] == [
        "This user has no home folder, so layer times are not kept; XDG_CACHE_HOME names one."
    ]
