"""The bench command: its table, its JSON, its plot and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from crisp_onnx.cli import cli
from crisp_onnx.masks.pattern import Pattern
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

    original = module.side_by_side
    monkeypatch.setattr(module, "side_by_side", lambda sides, feeds, budget_s: original(sides, feeds, budget_s=0.02))


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
