"""The whole road for data that are no labelled pixels: tables, many channels, bytes, and images without labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from crisp_onnx.api import compress, compression, speedup, verify
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.schema import Report

CONV = """
    c1 = Conv<pads = [1,1,1,1]>(%s, k1)
    a1 = Relu(c1)
    c2 = Conv<pads = [1,1,1,1]>(a1, k2)
    a2 = Relu(c2)
    p = GlobalAveragePool(a2)
    f = Flatten(p)
    y = Gemm<transB = 1>(f, w)
}"""
TABLE = """(float[N,20] x) => (float[N,4] y) <float[64,20] w1, float[64,64] w2, float[4,64] w3> {
    h1 = Gemm<transB = 1>(x, w1)
    r1 = Relu(h1)
    h2 = Gemm<transB = 1>(r1, w2)
    r2 = Relu(h2)
    y = Gemm<transB = 1>(r2, w3)
}"""
FIVE = "(float[N,5,8,8] x) => (float[N,4] y) <float[32,5,3,3] k1, float[32,32,3,3] k2, float[4,32] w> {" + CONV % "x"
RGB = "(float[N,3,8,8] x) => (float[N,4] y) <float[32,3,3,3] k1, float[32,32,3,3] k2, float[4,32] w> {" + CONV % "x"
BYTES = (
    RGB.replace("float[N,3,8,8]", "uint8[N,3,8,8]")
    .replace("{", "{ xf = Cast<to = 1>(x)", 1)
    .replace("(x, k1)", "(xf, k1)")
)
LABELS = np.arange(48) % 4
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (48, 8, 8, 3), np.uint8)


@pytest.fixture
def run(model_of: Callable[..., Model], tmp_path: Path) -> Callable[..., tuple[Report, Path]]:
    def compressed(graph: str, data: Path | None, **options: Any) -> tuple[Report, Path]:
        onnx.save(model_of(graph).proto, tmp_path / "m.onnx")
        recipe = Recipe(
            model=tmp_path / "m.onnx", classes=(0, 2), data=data, epochs=1, sparsity=0.6, target="portable",
            output=tmp_path / "out", **options,
        )  # fmt: skip
        return compress(recipe), tmp_path / "out" / "model.onnx"

    return compressed


def saved(folder: Path, name: str = "d.npz", **arrays: Any) -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


def flat(folder: Path) -> Path:
    (folder / "flat").mkdir()
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / "flat" / f"{number}.png")
    return folder / "flat"


def dense_accuracy(path: Path, inputs: Any, labels: Any) -> float:
    """Share right among outputs 0 and 2, in stock ONNX Runtime: nothing of ours."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"x": inputs})
    among = np.array([0, 2])
    return float((among[answers[:, among].argmax(1)] == labels).mean())


@pytest.mark.parametrize(("graph", "shape"), [(TABLE, (20,)), (FIVE, (5, 8, 8))])
def test_values_go_in_as_they_are_and_are_judged_so(
    run: Any, tmp_path: Path, graph: str, shape: tuple[int, ...]
) -> None:
    x = RNG.standard_normal((48, *shape))
    data = saved(tmp_path, x=x, y=LABELS)
    report, path = run(graph, data, eval_data=data)
    kept = np.isin(LABELS, (0, 2))
    expected = dense_accuracy(tmp_path / "m.onnx", x[kept].astype(np.float32), LABELS[kept])
    assert report.accuracy.dense.top1_restricted == pytest.approx(expected)
    assert report.accuracy.n == 24
    assert "Recovery shows rows of values as they are: only pixels are shifted and mirrored." in report.notes
    found = verify(tmp_path / "m.onnx", path, data=data)
    assert found.comparison is not None
    assert found.comparison.n == 24


def test_rows_cannot_be_synthesised(run: Any, tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"takes no images.* Give --data an \.npz"):
        run(TABLE, None)
    with pytest.raises(CrispError, match="cannot be synthesised"):
        run(TABLE, None, eval_data=saved(tmp_path, x=np.zeros((48, 20)), y=LABELS))


def test_a_model_of_bytes_gets_the_pixels_themselves(run: Any, tmp_path: Path) -> None:
    data = saved(tmp_path, x=PIXELS, y=LABELS)
    report, path = run(BYTES, data, eval_data=data)
    kept = np.isin(LABELS, (0, 2))
    expected = dense_accuracy(tmp_path / "m.onnx", PIXELS[kept].transpose(0, 3, 1, 2), LABELS[kept])
    assert report.accuracy.dense.top1_restricted == pytest.approx(expected)
    assert not any("preprocessing" in note for note in report.notes)
    assert onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_images_without_labels_are_learnt_from_and_accuracy_is_not_measured(run: Any, tmp_path: Path) -> None:
    folder = flat(tmp_path)
    report, path = run(RGB, folder, preprocess="unit")
    assert report.accuracy.compressed.top1 is None
    assert report.accuracy.reason == "the images have no labels, and no evaluation images were given"
    assert any("have no labels: what the model itself answers is learnt" in note for note in report.notes)
    found = verify(tmp_path / "m.onnx", path, data=folder, preprocess="unit")
    assert found.comparison is None
    assert any("Accuracy is not measured" in note and "has no labels" in note for note in found.notes)


def test_labelled_images_judge_what_was_learnt_without_labels(run: Any, tmp_path: Path) -> None:
    report, _ = run(RGB, flat(tmp_path), eval_data=saved(tmp_path, x=PIXELS, y=LABELS), preprocess="unit")
    kept = np.isin(LABELS, (0, 2))
    inputs = PIXELS[kept].transpose(0, 3, 1, 2).astype(np.float32) / 255
    assert report.accuracy.dense.top1_restricted == pytest.approx(
        dense_accuracy(tmp_path / "m.onnx", inputs, LABELS[kept])
    )


def test_evaluation_images_without_labels_measure_nothing(run: Any, tmp_path: Path) -> None:
    report, _ = run(RGB, saved(tmp_path, x=PIXELS, y=LABELS), eval_data=flat(tmp_path), preprocess="unit")
    assert report.accuracy.reason == "the evaluation images have no labels"


def test_evaluation_data_cut_late_leave_accuracy_unmeasured_and_the_model_kept(
    run: Callable[..., tuple[Report, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(tmp_path, x=PIXELS, y=LABELS)
    judge = saved(tmp_path, "e.npz", x=RNG.integers(0, 256, PIXELS.shape, np.uint8), y=LABELS)
    emit = compression.emit

    def emit_behind_the_cut(*given: Any, **options: Any) -> Any:
        os.truncate(judge, 100)
        return emit(*given, **options)

    monkeypatch.setattr(compression, "emit", emit_behind_the_cut)
    report, written = run(RGB, data, eval_data=judge, preprocess="unit")
    assert report.accuracy.dense.top1_restricted is None
    assert "e.npz was changed while it was in use" in report.accuracy.reason
    assert written.is_file()


def test_data_cut_before_training_are_refused_and_leave_nothing(
    run: Callable[..., tuple[Report, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(tmp_path, x=PIXELS, y=LABELS)
    gains = speedup.gains_kept

    def gains_behind_the_cut(*given: Any, **options: Any) -> Any:
        os.truncate(data, 100)
        return gains(*given, **options)

    monkeypatch.setattr(speedup, "gains_kept", gains_behind_the_cut)
    with pytest.raises(CrispError, match=r"d\.npz was changed while it was in use"):
        run(RGB, data, preprocess="unit")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npz", "m.onnx"]


def test_weights_that_are_cut_while_they_are_measured_cost_neither_the_run_nor_what_it_measures(
    run: Callable[..., tuple[Report, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime maps such files, and a process that reads a mapped file behind its end dies."""
    data, weights = saved(tmp_path, x=PIXELS, y=LABELS), tmp_path / "m.data"
    open_stock, keep = compression.open_stock, compression.load

    def load_from_two_files(path: Path) -> Model:
        onnx.save(onnx.load(path), path, save_as_external_data=True, location=weights.name, size_threshold=0)
        return keep(path)

    def open_and_cut(path: Path, **options: Any) -> Any:
        session = open_stock(path, **options)
        assert path != tmp_path / "m.onnx"
        os.truncate(weights, 10)
        return session

    monkeypatch.setattr(compression, "load", load_from_two_files)
    monkeypatch.setattr(compression, "open_stock", open_and_cut)
    report, written = run(RGB, data, preprocess="unit")
    assert weights.stat().st_size == 10
    assert not report.accuracy.reason
    assert report.accuracy.dense.top1_restricted is not None
    assert report.latency is not None
    assert not [note for note in report.notes if "not measured" in note]
    assert not list(written.parent.glob(".crisp-*"))


VOLUMES = """(float[N,1,4,6,6] x) => (float[N,4] y) <float[32,1,3,3,3] k, float[32,64] w1, float[64,4] w2> {
    c = Conv<pads = [1,1,1,1,1,1]>(x, k)
    a = Relu(c)
    p = GlobalAveragePool(a)
    f = Flatten(p)
    h = MatMul(f, w1)
    r = Relu(h)
    y = MatMul(r, w2)
}"""


def test_volumes_are_learnt_from(run: Callable[..., tuple[Report, Path]], tmp_path: Path) -> None:
    x = RNG.standard_normal((48, 1, 4, 6, 6)).astype(np.float32)
    report, written = run(VOLUMES, saved(tmp_path, x=x, y=LABELS))
    assert any(layer.decision == "sparse" for layer in report.layers)
    session = ort.InferenceSession(str(written), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": x})[0].shape == (48, 4)


def test_what_was_timed_elsewhere_names_layers_of_the_model_and_is_said_to_be_unused(
    run: Callable[..., tuple[Report, Path]], tmp_path: Path
) -> None:
    data = saved(tmp_path, x=PIXELS, y=LABELS)
    for wrong in ({"packed": ("zzz",)}, {"most_blocks": {"zzz": 1}}):
        with pytest.raises(CrispError, match=f"`{next(iter(wrong))}` in the recipe names 'zzz'"):
            run(RGB, data, preprocess="unit", **wrong)
    report, _ = run(RGB, data, preprocess="unit", packed=("Conv_2",))
    assert any("are not used here" in note for note in report.notes)
