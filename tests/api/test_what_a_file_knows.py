"""`verify` and `inspect` use what a compressed file records: its preprocessing, its names and its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import coloured_images, residual_classifier

from crisp_onnx import CrispError, Recipe, compress, inspect, verify
from crisp_onnx.api import compression
from crisp_onnx.api.words import find_form, find_preprocess
from crisp_onnx.data import parse_preprocess
from crisp_onnx.model import TensorSpec, load
from crisp_onnx.report.views import inspect_view
from crisp_onnx.task import read_stamp

NAMES = ["ant", "bee", "cat", "dog", "eel, big", "fox"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a data set whose labels count in another order than the outputs, and a label file."""
    root = tmp_path_factory.mktemp("known")
    residual_classifier(root / "small.onnx")
    (root / "labels.txt").write_text("\n".join(NAMES) + "\n")
    pairs = coloured_images(8)
    order = [5, 3, 1, 0, 2, 4]
    x, y = np.stack([image for image, _ in pairs]), np.array([order.index(label) for _, label in pairs])
    np.savez(root / "data.npz", x=x, y=y, classes=np.array([NAMES[index] for index in order]))
    return root


def compressed(folder: Path, out: str, **options: object) -> Path:
    recipe = Recipe(
        model=folder / "small.onnx", classes=("fox", "eel, big", "ant"), labels=folder / "labels.txt",
        data=folder / "data.npz", preprocess="signed", epochs=0, target="portable", output=folder / out, **options,
    )  # fmt: skip
    compress(recipe)
    return folder / out / "model.onnx"


@pytest.mark.parametrize("head", ["keep", "slice"])
def test_verify_without_options_finds_what_it_finds_with_them(folder: Path, head: str) -> None:
    written = compressed(folder, head, head=head)
    found = verify(folder / "small.onnx", written, data=folder / "data.npz")
    told = verify(
        folder / "small.onnx", written, data=folder / "data.npz", labels=folder / "labels.txt", preprocess="signed",
        classes=("fox", "eel, big", "ant"),
    )  # fmt: skip
    assert found.classes is not None
    assert found.classes.indices == (5, 4, 0)
    assert found.comparison == told.comparison
    assert found.worst_relative == told.worst_relative
    assert not any("assumed" in note for note in found.notes)


def test_a_file_cannot_have_another_one_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("password: hunter2\n")
    stamp = {"output": "y", "columns": "[0]", "classes": '{"0": "a"}', "preprocess": str(tmp_path / "secret.YAML")}
    entries = {f"pkg.crisp_onnx.{key}": text for key, text in stamp.items()}
    read = read_stamp(entries)
    assert read is not None
    assert read.preprocess is None
    honest = read_stamp(entries | {"pkg.crisp_onnx.preprocess": "mean=0.5,std=1.0,scale=0.1,size=4x4"})
    assert honest is not None
    assert honest.preprocess == "mean=0.5,std=1.0,scale=0.1,size=4x4"


@pytest.mark.parametrize("columns", ["[1e999]", "[Infinity]", "[-1]", "[null]", "{}", "[[]]", "[NaN]", '["x"]', "9"])
def test_a_record_that_cannot_be_true_is_none(columns: str) -> None:
    entries = {"output": "y", "columns": columns, "classes": '{"0": "a"}', "labels": "{}"}
    assert read_stamp({f"pkg.crisp_onnx.{key}": text for key, text in entries.items()}) is None


def test_a_model_that_is_replaced_during_the_run_is_not_compared_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    residual_classifier(tmp_path / "live.onnx")
    whole = compression.emit

    def replaced(*words: object, **more: object) -> object:
        residual_classifier(tmp_path / "live.onnx", seed=1)
        return whole(*words, **more)

    monkeypatch.setattr(compression, "emit", replaced)
    report = compress(
        Recipe(
            model=tmp_path / "live.onnx", classes=("fox", "ant"), labels=folder / "labels.txt",
            data=folder / "data.npz", preprocess="signed", epochs=0, target="portable", output=tmp_path / "out",
        )
    )  # fmt: skip
    assert report.accuracy.source == "not measured"
    assert "live.onnx was replaced while the run went on" in report.accuracy.reason
    assert report.latency is None
    assert any("was replaced while the run went on" in note for note in report.notes)
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_a_device_that_is_not_there_is_refused_before_anything_is_timed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "workshop", lambda *words, **more: pytest.fail("the run has begun"))
    for device in ("xpu", "", "meta", "cuda:99"):
        with pytest.raises(CrispError, match="--device"):
            compressed(folder, str(tmp_path / "out"), device=device)


def test_a_cut_file_is_not_judged_against_a_model_without_its_outputs(folder: Path) -> None:
    written = compressed(folder, "cut", head="slice")
    with pytest.raises(CrispError, match=r"outputs up to 5 of its source, and .* has 3\. Compare it with the model"):
        verify(written, written, data=folder / "data.npz")


def test_inspect_opens_what_emit_dense_writes_and_says_what_it_records(folder: Path) -> None:
    found = inspect(compressed(folder, "dense", emit="dense", head="slice"))
    assert found.layers == ()
    assert {layer.name for layer in found.zeros} == {"conv1", "conv2"}
    assert all(0.1 < layer.density < 0.3 for layer in found.zeros)
    assert any("Made for 3 classes: fox (5), eel (4), ant (0)." in note for note in found.notes)
    assert any("of the source's classes 5, 4, 0" in note for note in found.notes)
    assert any(note.startswith("Preprocessing: mean=") for note in found.notes)
    assert inspect_view(found)
    with pytest.raises(CrispError, match="no record of a compression"):
        inspect(folder / "small.onnx")


def test_a_dense_result_is_a_model_that_names_its_columns_and_its_preprocessing(folder: Path) -> None:
    written = load(compressed(folder, "again", emit="dense", head="slice"))
    stamp = read_stamp(written.metadata)
    assert stamp is not None
    assert stamp.column_labels is not None
    assert [stamp.column_labels.name(column) for column in range(3)] == ["fox", "eel", "ant"]
    assert find_form(None, written) == find_preprocess("signed", written)


@pytest.mark.parametrize(("dtype", "text"), [(np.float32, "imagenet,order=bgr"), (np.uint8, None), (np.float32, "raw")])
def test_what_is_recorded_reads_back_to_the_same_preprocessing(dtype: type, text: str | None) -> None:
    spec = TensorSpec("x", (None, 3, 8, 8), np.dtype(dtype))
    way = parse_preprocess(text, spec)
    assert parse_preprocess(way.describe(), spec) == way


def test_inspect_says_what_is_recorded_of_the_output_asked_for(folder: Path) -> None:
    written = compressed(folder, "asked")
    assert inspect(written, output_name="logits").notes == inspect(written).notes
    proto = onnx.load(written)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, ["N", 32]))
    onnx.save(proto, folder / "asked" / "two.onnx")
    (note,) = inspect(folder / "asked" / "two.onnx", output_name="flat").notes
    assert note.startswith("Nothing is recorded of output 'flat': the file was compressed for 'logits'")
    with pytest.raises(CrispError, match=r"model\.onnx has no output 'logit'; it has 'logits'"):
        inspect(written, output_name="logit")


def test_verify_moves_names_by_an_offset_and_orders_folders_as_it_is_told(folder: Path, tmp_path: Path) -> None:
    written, source = compressed(folder, "offset"), folder / "small.onnx"
    (tmp_path / "five.txt").write_text("\n".join(NAMES[1:]) + "\n")
    told = verify(source, written, labels=tmp_path / "five.txt", labels_offset=1, classes=("bee", "fox"))
    assert told.classes is not None
    assert told.classes.indices == (1, 5)
    with pytest.raises(CrispError, match="--labels-offset"):
        verify(source, written, labels=tmp_path / "five.txt", classes=("bee", "fox"))
    # Folders class1 ... class12 of a model with 12 outputs would differ in order; six folders show it with one of 10.
    names = ["c1", "c2", "c3", "c4", "c5", "c10"]
    for name, (image, _) in zip(names, coloured_images(1), strict=True):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "data" / name / "0.png")
    for order, index in (("lexical", 1), ("natural", 5)):
        found = verify(source, written, data=tmp_path / "data", classes=("c10",), class_order=order)
        assert found.classes is not None
        assert found.classes.indices == (index,)
