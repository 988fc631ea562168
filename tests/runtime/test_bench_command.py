"""The bench command: its table, its JSON, its plot and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from crisp_onnx.cli import cli
from crisp_onnx.masks.pattern import Pattern
from crisp_onnx.runtime.bench import bench
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid


@pytest.fixture
def model(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "small.onnx"
    case = LayerCase((32, 16, 3, 3), (1, 16, 14, 14), Pattern(), 2, pads=(1, 1, 1, 1))
    onnx.save(onnx.load_from_string(dense_and_hybrid(case)[1]), path)
    return path


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from crisp_onnx.runtime import bench as module

    original = module.interleave
    monkeypatch.setattr(module, "interleave", lambda runs, budget_s: original(runs, budget_s=0.02))


@pytest.fixture
def open_batch(model: Path) -> Path:
    proto = onnx.load(model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    path = model.with_name("open_batch.onnx")
    onnx.save(proto, path)
    return path


def test_bench_prints_settings_and_layers_and_plots_them(model: Path, tmp_path: Path) -> None:
    plot = tmp_path / "layers.svg"
    done = CliRunner().invoke(cli, ["bench", str(model), "--threads", "1,2", "--plot", str(plot), "-q"])
    assert done.exit_code == 0, done.output
    assert "small.onnx against the same model, dense" in done.output
    assert "f32_hybrid_" in done.output
    assert "Least gained: layer" in done.output
    assert plot.read_text().startswith("<?xml")


def test_bench_prints_one_json_document(model: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", str(model), "--json", "-q"])
    document = json.loads(done.stdout)
    assert document["comparisons"][0]["timing"]["rounds"] >= 3


def test_bench_refuses_what_is_no_list_of_numbers(model: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", str(model), "--threads", "all"])
    assert "not a list of numbers" in str(done.exception)


def test_bench_feeds_a_batch_at_once_and_in_parts_and_compares_with_the_faster_dense_way(open_batch: Path) -> None:
    one, at_once, in_parts = bench(open_batch, threads=(2,), batch=(1, 4)).comparisons
    assert (one.batch, one.in_parts, one.against_in_parts) == (1, False, False)
    assert (at_once.batch, at_once.in_parts, in_parts.in_parts) == (4, False, True)
    assert at_once.against_in_parts == in_parts.against_in_parts
    assert at_once.timing.sides_ms[0] == in_parts.timing.sides_ms[0]
    done = CliRunner().invoke(cli, ["bench", str(open_batch), "--batch", "4", "-q"])
    assert "in parts" in done.output, done.output


def test_bench_feeds_a_fixed_batch_at_once_alone(model: Path) -> None:
    (found,) = bench(model, batch=(4,)).comparisons
    assert not found.in_parts
