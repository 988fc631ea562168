"""`--head slice`: what cannot be cut is refused before anything is trained, and names follow the columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.slicing import check_slicing, outputs_cut
from crisp_onnx.data import labels_from_metadata
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model
from crisp_onnx.task import read_stamp, task_of

NAMES = "{0: 'ant', 1: 'bee', 2: 'cat', 3: 'dog', 4: 'eel', 5: 'fox'}"


def checked(model: Model, path: Path, wanted: tuple[int, ...]) -> None:
    onnx.save(model.proto, path)
    prepared = prepare(path)
    check_slicing(prepared, task_of(prepared.head, wanted))


def test_what_cannot_be_cut_is_refused_at_once(model_of: Callable[..., Model], tmp_path: Path) -> None:
    row = "(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[8,2] v, int64[2] s>"
    checked(model_of(row + "{ t = MatMul(x, w) y = Softmax(t) }"), tmp_path / "m.onnx", (4, 1))
    percent = "{ t = MatMul(x, w) p = Softmax(t) k = Constant<value_float=100.0>() y = Mul(p, k) }"
    checked(model_of(row + percent), tmp_path / "m.onnx", (4, 1))
    for body in ("t = MatMul(x, v) y = Tile(t, s)", "t = MatMul(x, w) k = Constant<value_int=1>() y = CumSum(t, k)"):
        with pytest.raises(CrispError, match="--head slice is not possible"):
            checked(model_of(row + f"{{ {body} }}", s=[1, 3]), tmp_path / "m.onnx", (4, 1))


def test_a_single_class_is_refused_but_where_classes_do_not_exclude_each_other(
    model_of: Callable[..., Model], tmp_path: Path
) -> None:
    row = "(float[N,8] x) => (float[N,6] y) <float[8,6] w> { t = MatMul(x, w) "
    with pytest.raises(CrispError, match="nothing to compare it with"):
        checked(model_of(row + "y = Softmax(t) }"), tmp_path / "m.onnx", (4,))
    checked(model_of(row + "y = Sigmoid(t) }"), tmp_path / "m.onnx", (4,))


@pytest.mark.parametrize("batch", [None, 6], ids=["open batch", "a batch as long as the classes"])
def test_names_and_shapes_follow_the_columns_that_are_kept(tmp_path: Path, batch: int | None) -> None:
    proto = onnx.load(residual_classifier(tmp_path / "small.onnx"))
    onnx.helper.set_model_props(proto, {"names": NAMES, "nc": "6", "author": "x"})
    if batch:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(proto, tmp_path / "small.onnx")
    recipe = Recipe(
        model=tmp_path / "small.onnx", classes=("dog", "fox", "ant"), preprocess="unit", epochs=0, head="slice",
        target="portable", output=tmp_path / "out",
    )  # fmt: skip
    compress(recipe, data=coloured_images(6))
    written = tmp_path / "out" / "model.onnx"
    metadata = {entry.key: entry.value for entry in onnx.load(written).metadata_props}
    labels, stamp = labels_from_metadata(metadata), read_stamp(metadata)
    assert labels is not None
    assert [labels.name(column) for column in range(3)] == ["dog", "fox", "ant"]
    assert (metadata["nc"], metadata["author"]) == ("3", "x")
    assert stamp is not None
    assert stamp.columns == (3, 5, 0)
    session = ort.InferenceSession(str(written))
    answered = session.run(None, {"image": np.zeros((batch or 2, 3, 12, 12), np.float32)})[0]
    assert answered.shape == (batch or 2, 3)
    assert session.get_outputs()[0].shape == [batch or "N", 3]


def test_names_that_cannot_be_cut_go_with_a_note(tmp_path: Path) -> None:
    proto = onnx.load(residual_classifier(tmp_path / "small.onnx"))
    onnx.helper.set_model_props(proto, {"names": '["a", "b", "c"]', "author": "x"})
    onnx.save(proto, tmp_path / "small.onnx")
    recipe = Recipe(
        model=tmp_path / "small.onnx", classes=(5, 0), preprocess="unit", epochs=0, head="slice", target="portable",
        output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=coloured_images(6))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert "names" not in metadata
    assert metadata["author"] == "x"
    (note,) = [note for note in report.notes if "leaves out" in note]
    assert "under 'names'" in note


def test_outputs_that_are_cut_with_the_scores_are_named(model_of: Callable[..., Model], tmp_path: Path) -> None:
    model = model_of(
        "(float[N,3,8,8] x) => (float[N,6] y, int64[N] label, float[N,16,1,1] seen) <float[16,3,3,3] v, float[16,6] w>"
        "{ t = Conv(x, v) seen = GlobalAveragePool(t) f = Flatten(seen) y = MatMul(f, w) "
        "label = ArgMax<axis=1, keepdims=0>(y) }"
    )
    onnx.save(model.proto, tmp_path / "m.onnx")
    prepared = prepare(tmp_path / "m.onnx", output=("y",))
    assert outputs_cut(prepared) == ("label",)
    whole, cut = (" ".join(prepared.outputs.notes(prepared.head, names)) for names in ((), ("label",)))
    assert "number of the best class" in whole
    assert "'label' down too" not in whole
    assert "cuts 'label' down too" in cut
    assert "number of the best class" not in cut
    assert "'seen'" in cut
