"""The bench command: its table, its JSON, its plot and its refusals."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from onnx import numpy_helper

from crisp_onnx.cli import cli
from crisp_onnx.errors import CrispError
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.report import layer_plot
from crisp_onnx.report.bench_view import bench_view
from crisp_onnx.runtime import bench as bench_module
from crisp_onnx.runtime import layer_bench, session
from crisp_onnx.runtime.bench import Bench, bench
from crisp_onnx.runtime.latency import summarize
from crisp_onnx.runtime.layer_bench import layers_alone
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.library import Library

CASE = LayerCase((32, 16, 3, 3), (1, 16, 14, 14), Pattern(), 2, pads=(1, 1, 1, 1))


@pytest.fixture
def model(tmp_path: Path, library: Path) -> Path:
    path = tmp_path / "small.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(CASE)[1]), path)
    return path


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    original = bench_module.take_turns
    monkeypatch.setattr(bench_module, "take_turns", lambda sides, budget_s: original(sides, budget_s=0.02))


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
    done = CliRunner().invoke(cli, ["bench", str(model), "--threads", "1,2", "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    assert "small.onnx against the same model, dense" in done.output
    assert "f32_hybrid_" in done.output
    assert "Least gained: layer" in done.output
    assert plot.read_text().startswith("<?xml")


@pytest.mark.parametrize("name", [r"$\foo$", "$", "\x1b[31mred"], ids=ascii)
def test_a_plot_takes_any_name(model: Path, tmp_path: Path, name: str) -> None:
    found = bench(model, per_layer=True, budget_s=0.02)
    assert found.layers is not None
    layers = tuple(replace(layer, node=name) for layer in found.layers.layers)
    layer_plot.write_layer_plot(replace(found, layers=replace(found.layers, layers=layers)), tmp_path / "a.svg")
    assert ElementTree.parse(tmp_path / "a.svg")


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
    done = CliRunner().invoke(cli, ["bench", str(open_batch), "--batch", "4"])
    assert "in parts" in done.output, done.output


def test_bench_refuses_a_batch_that_the_model_does_not_take(model: Path, open_batch: Path) -> None:
    with pytest.raises(CrispError, match=r"small\.onnx fixes its batch at 1 and cannot take 4"):
        bench(model, batch=(1, 4))
    with pytest.raises(CrispError, match=r"small\.onnx fixes its batch at 1 and cannot take 4"):
        bench(open_batch, model, batch=(4,))


def test_bench_takes_the_batch_that_the_model_fixes(tmp_path: Path, library: Path) -> None:
    path = tmp_path / "four.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(replace(CASE, input_shape=(4, 16, 14, 14)))[1]), path)
    (found,) = bench(path).comparisons
    assert (found.batch, found.in_parts) == (4, False)


def test_bench_compares_two_files_and_names_what_each_ran_in(model: Path, open_batch: Path) -> None:
    dense = model.with_name("dense.onnx")
    onnx.save(onnx.load_from_string(dense_and_hybrid(CASE)[0]), dense)
    found = bench(model, dense)
    assert found.runtime.startswith("native kernels")
    assert found.against_runtime == "stock ONNX Runtime"
    done = CliRunner().invoke(cli, ["bench", str(model), "--against", str(open_batch)])
    assert done.exit_code == 0, done.output
    assert f"Against: {found.runtime}." in done.output


def test_bench_refuses_two_models_of_different_images(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(replace(CASE, input_shape=(1, 16, 7, 7)))[1]), other)
    with pytest.raises(CrispError, match=r"other\.onnx takes float32 1x16x7x7, .*small\.onnx takes float32 1x16x14x14"):
        bench(model, other)


def test_an_open_side_takes_the_size_that_the_other_model_fixes(model: Path) -> None:
    proto = onnx.load(model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[2].dim_param = "height"
    opened = model.with_name("open_height.onnx")
    onnx.save(proto, opened)
    assert len(bench(opened, model).comparisons) == 1


def test_bench_refuses_a_model_without_hybrid_operators_unless_another_is_named(tmp_path: Path) -> None:
    dense = tmp_path / "dense.onnx"
    onnx.save(onnx.load_from_string(dense_and_hybrid(CASE)[0]), dense)
    with pytest.raises(CrispError, match="its own dense self"):
        bench(dense)
    found = bench(dense, dense, per_layer=True)
    assert found.layers is not None
    assert found.layers.obstacle == "dense.onnx has no hybrid operators."


def test_bench_refuses_more_threads_than_cores_and_more_images_than_memory(model: Path, open_batch: Path) -> None:
    with pytest.raises(CrispError, match="cores of this machine"):
        bench(model, threads=(10**14,))
    with pytest.raises(CrispError, match="more than 256 Mi"):
        bench(open_batch, batch=(10**12,))


def test_bench_without_kernels_measures_the_model_and_says_why_no_layer(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Library(None, None, "There are no kernels here.")
    for module in (layer_bench, sys.modules[session.__module__], layer_plot):
        monkeypatch.setattr(module, "load_library", lambda: absent)
    done = CliRunner().invoke(cli, ["bench", str(model), "--per-layer"])
    assert done.exit_code == 0, done.output
    assert "No layer was measured alone. There are no kernels here." in done.output
    assert "Model: stock ONNX Runtime: the function bodies run at dense speed." in done.output
    with pytest.raises(CrispError, match="There are no kernels here"):
        layer_plot.require_plot(model.with_name("layers.svg"))


@pytest.mark.parametrize("name", ["layers.pdf", "absent/layers.svg", "folder.svg"])
def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_measured(
    model: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model.parent / "folder.svg").mkdir()
    monkeypatch.setattr(bench_module, "take_turns", lambda *_, **__: pytest.fail("it was measured"))
    done = CliRunner().invoke(cli, ["bench", str(model), "--plot", str(model.parent / name)])
    assert isinstance(done.exception, CrispError), done.output


def test_a_plot_is_a_png_where_its_name_says_so_and_an_interruption_leaves_the_old_one(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plot = model.with_name("layers.png")
    assert CliRunner().invoke(cli, ["bench", str(model), "--plot", str(plot), "-q"]).exit_code == 0
    drawn = plot.read_bytes()
    assert drawn.startswith(b"\x89PNG")

    def interrupted(self: Figure, file: BinaryIO, **options: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    CliRunner().invoke(cli, ["bench", str(model), "--plot", str(plot), "-q"])
    assert plot.read_bytes() == drawn
    assert sorted(entry.name for entry in plot.parent.iterdir()) == ["layers.png", "small.onnx"]


def test_a_noisy_setting_is_named(model: Path) -> None:
    comparison = replace(
        bench(model).comparisons[0],
        threads=2,
        batch=8,
        timing=summarize([(np.array([2.0]), np.array([other])) for other in (1.0, 2.0, 0.5)]),
    )
    found = Bench(model, "here", "itself", "there", (comparison,), None)
    assert any("2 threads, batch 8: The machine was too noisy" in str(part) for part in bench_view(found))


def test_a_layer_beside_a_dense_one_pays_for_its_conversions(tmp_path: Path, library: Path) -> None:
    hybrid = onnx.load_from_string(dense_and_hybrid(CASE)[1])
    weight = numpy_helper.from_array(np.ones((8, 32, 1, 1), np.float32), "last")
    hybrid.graph.initializer.append(weight)
    hybrid.graph.node.append(onnx.helper.make_node("Conv", ["y", "last"], ["z"], name="dense"))
    hybrid.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, list("abcd")))
    path = tmp_path / "beside.onnx"
    onnx.save(hybrid, path)
    (layer,) = layers_alone(path).layers
    times = layer.verdict.times
    assert layer.verdict.sparse_ms == pytest.approx(times.hybrid_ms + times.seam_ms / 2)
    assert layer.verdict.speedup == pytest.approx(times.dense_ms / layer.verdict.sparse_ms)
