"""The rule that decides sparse or dense, its cache, and the measurement under it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.masks.pattern import Pattern
from crisp_onnx.runtime import profit
from crisp_onnx.runtime.bench import bench
from crisp_onnx.runtime.hybrid_nodes import hybrid_nodes
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer

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
    cache = tmp_path / "deep" / "times.json"
    assert profit.profitable(CONV, cache=cache) == profit.profitable(CONV, cache=cache)
    assert measured == [CONV]
    profit.profitable(GEMM, cache=cache)
    assert measured == [CONV, GEMM]
    assert [entry.name for entry in cache.parent.iterdir()] == ["times.json"]


def test_a_damaged_cache_is_measured_anew(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profit, "measure_layer", lambda case, threads: LayerTimes(2.0, 1.0, 0.0))
    cache = tmp_path / "times.json"
    cache.write_text("{ half a file")
    assert profit.profitable(CONV, cache=cache).sparse


def test_times_come_from_the_runtimes_own_profile(library: Path) -> None:
    times = measure_layer(CONV, rounds=3)
    assert times.dense_ms > 0
    assert times.hybrid_ms > 0
    assert times.seam_ms >= 0


def test_bench_compares_a_model_with_its_dense_self(tmp_path: Path, library: Path) -> None:
    model = tmp_path / "layer.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(CONV)[1]), model)
    result = bench(model, per_layer=True, budget_s=0.05)
    assert [(c.threads, c.batch) for c in result.comparisons] == [(1, 1)]
    assert result.comparisons[0].speedup > 0
    assert [(layer.node, layer.kernel[:10]) for layer in result.layers] == [("layer", "f32_hybrid")]
    with pytest.raises(CrispError, match="1 or more"):
        bench(model, threads=(0,))


def test_hybrid_nodes_know_the_shape_of_their_input(tmp_path: Path) -> None:
    model = tmp_path / "layer.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(CONV)[1]), model)
    (node,) = hybrid_nodes(model)
    assert node.case == CONV
    assert node.positions == 196
