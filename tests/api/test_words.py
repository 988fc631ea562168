"""What the user's words mean: label files, metadata and class folders against the outputs of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from crisp_onnx.api.class_order import mapping_note
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.words import NameOptions, find_classes, find_labels
from crisp_onnx.data import Classes, open_images, parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model

SHADES = 12


@pytest.fixture
def prepared(model_of: Callable[..., Model], tmp_path: Path) -> Callable[..., Prepared]:
    """A model that answers with the output whose shade of grey is nearest: shade k is that of output `outputs[k]`."""

    def build(outputs: list[int], metadata: dict[str, str] | None = None) -> Prepared:
        n = len(outputs)
        grey = np.zeros(n)
        grey[outputs] = np.linspace(0, 1, n)
        model = model_of(
            f"(float[N,3,8,8] x) => (float[N,{n}] y) <float[{n},3,8,8] w, float[{n}] b>"
            "{ t = Conv(x, w, b) y = Flatten(t) }",
            # The largest of g x - g^2 / 2 is that of the g nearest to x.
            w=np.broadcast_to(grey[:, None, None, None] / 192, (n, 3, 8, 8)),
            b=-(grey**2) / 2,
        )
        if metadata:
            onnx.helper.set_model_props(model.proto, metadata)
        onnx.save(model.proto, tmp_path / "shades.onnx")
        return prepare(tmp_path / "shades.onnx")

    return build


def folders(root: Path, names: list[str], per_folder: int = 4) -> Path:
    """Image folders whose shades rise in the order of `names`."""
    for shade, name in zip(np.linspace(0, 255, len(names)).round(), names, strict=True):
        (root / name).mkdir(parents=True)
        for number in range(per_folder):
            Image.new("RGB", (8, 8), (int(shade),) * 3).save(root / name / f"{number}.png")
    return root


def found(prepared: Prepared, *sources: Path | None, **options: object):  # type: ignore[no-untyped-def]
    form = parse_preprocess("unit", prepared.source.input)
    return find_labels(prepared, form, NameOptions(**options), *sources)  # type: ignore[arg-type]


COUNTED = [str(number) for number in range(1, SHADES + 1)]
NAMES = {
    "1 to 12": COUNTED,
    "0 to 11": [str(number) for number in range(SHADES)],
    "class1 to class12": [f"class{number}" for number in COUNTED],
    "angles": [str(number * 30) for number in range(SHADES)],
}


@pytest.mark.parametrize("order", ["lexical", "natural"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_the_model_tells_in_which_order_the_folders_were_numbered(
    prepared: Callable[..., Prepared], tmp_path: Path, names: list[str], order: str
) -> None:
    trained = sorted(names) if order == "lexical" else names
    model = prepared([trained.index(name) for name in names])
    named = found(model, folders(tmp_path / "img", names))
    assert [named.labels.name(index) for index in range(SHADES)] == trained
    assert f"number the outputs in {order} order" in named.notes[0]
    assert "the model is right about" in named.notes[0]
    classes = find_classes(tuple(names[place] for place in (0, 1, 9)), named.labels, SHADES)
    assert classes.indices == tuple(trained.index(names[place]) for place in (0, 1, 9))
    assert f"{names[1]} is output {trained.index(names[1])}" in mapping_note(named.labels, classes.indices)


def test_class_order_decides_against_the_model(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    model = prepared(list(range(SHADES)))
    named = found(model, folders(tmp_path / "img", COUNTED), order="lexical")
    assert [named.labels.name(index) for index in range(3)] == ["1", "10", "11"]
    assert "as --class-order says" in named.notes[0]


def test_a_model_that_cannot_tell_is_an_assumption_that_is_said(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    model = prepared([0, 0, 0, 0])
    named = found(model, folders(tmp_path / "img", ["0", "90", "180", "270"]))
    assert [named.labels.name(index) for index in range(4)] == ["0", "180", "270", "90"]
    assert "this is an assumption" in named.notes[0]
    assert "--class-order lexical or natural" in named.notes[0]
    assert find_classes(("0", "90"), named.labels, 4).indices == (0, 3)
    assert find_classes(("0", "3"), named.labels, 4).indices == (0, 3)
    assert find_classes((0, 3), named.labels, 4).names == ("0", "90")


def test_folders_of_other_names_number_the_outputs_as_the_note_says(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    named = found(prepared([0, 1, 2]), folders(tmp_path / "img", ["cat", "dog", "eel"]))
    assert find_classes(("eel", "cat"), named.labels, 3).indices == (2, 0)
    assert "lexical and natural order are the same" in named.notes[0]


def test_numbered_folders_that_are_no_outputs_are_no_indices(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"numbered up to 3, but the model's outputs are 0 to 2"):
        found(prepared([0, 1, 2]), folders(tmp_path / "img", ["1", "3"]))
    named = found(prepared([0, 1, 2]), folders(tmp_path / "some", ["0", "2"]))
    assert (named.labels, named.notes) == (None, ())


def test_numbered_folders_beside_a_label_file_are_further_names(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat\n")
    named = found(prepared([0, 1, 2]), folders(tmp_path / "img", ["1", "2", "3"]), labels=tmp_path / "labels.txt")
    assert find_classes(("3", "ant"), named.labels, 3).names == ("cat", "ant")
    assert [named.labels.candidates(word) for word in ("bee", "2", "3")] == [(1,), (1,), (2,)]
    assert named.labels.name(1) == "bee"


def test_folders_named_as_the_model_names_its_outputs_are_in_no_order(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    model = prepared([0, 1, 2], {"names": "['eel', 'cat', 'dog']"})
    named = found(model, folders(tmp_path / "img", ["cat", "dog", "eel"]))
    assert find_classes(("cat",), named.labels, 3).indices == (1,)
    assert named.notes == ()


@pytest.mark.parametrize("rows", [2, 4])
def test_a_label_file_of_another_length_needs_its_offset(
    prepared: Callable[..., Prepared], tmp_path: Path, rows: int
) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"name {row}\n" for row in range(rows)))
    model = prepared([0, 1, 2])
    with pytest.raises(CrispError, match="--labels-offset"):
        found(model, labels=tmp_path / "labels.txt")
    named = found(model, labels=tmp_path / "labels.txt", offset=3 - rows)
    assert named.labels.candidates("name 1") == (4 - rows,)
    assert named.notes == ((f"{tmp_path / 'labels.txt'} has no name for output 0.",) if rows == 2 else ())


def test_metadata_of_another_model_is_not_used_and_said(prepared: Callable[..., Prepared]) -> None:
    named = found(prepared([0, 1, 2], {"names": "['a', 'b', 'c', 'd']"}))
    assert named.labels is None
    assert named.notes == (
        "The model's metadata (names) names 4 outputs, but the model has 3, so these names are not used. If its first "
        "name is of no output, as background may be, pass --labels-offset -1; if its last is, --labels-offset 0.",
    )
    counted = found(prepared([0, 1], {"names": "{1: 'a', 2: 'b'}"}))
    assert counted.labels is None
    assert counted.notes[0].endswith("If it counts from 1, pass --labels-offset -1.")
    moved = found(prepared([0, 1], {"names": "{1: 'a', 2: 'b'}"}), offset=-1)
    assert moved.labels.name(1) == "b"


def test_class_names_of_a_data_set_that_are_numbers_mean_the_outputs_of_these_numbers(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    x = np.zeros((4, 8, 8, 3), np.uint8)
    model = prepared([0, 1, 2, 3, 4, 5])
    form = parse_preprocess("unit", model.source.input)

    def outputs_of(names: list[str], wanted: tuple[int, ...]) -> tuple[list[int], object]:
        np.savez(tmp_path / "d.npz", x=x, y=np.arange(4) % len(names), classes=names)
        named = found(model, tmp_path / "d.npz")
        images = open_images(tmp_path / "d.npz", Classes(wanted, tuple(map(str, wanted))), named.labels, form)
        return images.labels.tolist(), named

    assert outputs_of(["0", "2", "4"], (0, 4))[0] == [0, 4, 0]
    labels, named = outputs_of(["5", "4", "3", "2", "1", "0"], (5, 3))
    assert labels == [5, 3]
    assert "each is taken for the output of that number" in named.notes[0]
    labels, named = outputs_of(["1", "2", "3", "4", "5", "6"], (0, 3))  # no outputs: names in their order
    assert labels == [0, 3]
    assert find_classes(("1", "4"), named.labels, 6).indices == (0, 3)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(4), classes=["1", "2", "3", "9"])
    with pytest.raises(CrispError, match="not known which of the model's 6 outputs"):
        found(model, tmp_path / "d.npz")


def test_labels_that_count_in_names_of_their_own_are_no_outputs(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    x = np.zeros((2, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=[0, 1], classes=["cat", "dog"])
    with pytest.raises(CrispError, match=r"count in its 2 class names, .* the model's 3 outputs"):
        found(prepared([0, 1, 2]), tmp_path / "d.npz")
    named = found(prepared([0, 1]), tmp_path / "d.npz")
    assert named.labels.name(1) == "dog"
    assert "name the outputs, in their order" in named.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"order": "natural"}, "--class-order is about class folders"), ({"offset": 1}, "--labels-offset moves names")],
)
def test_an_option_about_names_that_there_are_not_is_refused(
    prepared: Callable[..., Prepared], options: dict[str, object], message: str
) -> None:
    with pytest.raises(CrispError, match=message):
        found(prepared([0, 1, 2]), **options)


@pytest.mark.parametrize("order", [None, "lexical", "natural"])
def test_folders_1_to_12_of_named_outputs_are_all_places_in_an_order(
    prepared: Callable[..., Prepared], tmp_path: Path, order: str | None
) -> None:
    trained = sorted(COUNTED) if order == "lexical" else COUNTED
    names = [f"thing {number}." for number in trained]
    model = prepared([trained.index(name) for name in COUNTED], {"names": str(names)})
    root = folders(tmp_path / "img", COUNTED)
    named = found(model, root, order=order)
    classes = find_classes(("1", "4", "12"), named.labels, SHADES)
    assert classes.indices == tuple(trained.index(word) for word in ("1", "4", "12"))
    assert classes.names == ("thing 1.", "thing 4.", "thing 12.")
    assert find_classes(("thing 4.",), named.labels, SHADES).indices == (trained.index("4"),)
    images = open_images(root, classes, named.labels, parse_preprocess("unit", model.source.input))
    assert sorted(set(images.labels.tolist())) == sorted(classes.indices)
    with pytest.raises(CrispError, match=r"'0' names no output: .* names them 1 to 12, of which 1 is output 0"):
        find_classes(("0", "3"), named.labels, SHADES)


def test_class_order_is_refused_where_names_decide(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    model = prepared([0, 1, 2], {"names": "['eel', 'cat', 'dog']"})
    with pytest.raises(CrispError, match=r"bear names that the model's metadata .* Leave --class-order out"):
        found(model, folders(tmp_path / "img", ["cat", "dog", "eel"]), order="lexical")
    with pytest.raises(CrispError, match="2 of the 3 class folders"):
        found(model, folders(tmp_path / "some", ["cat", "dog", "gnu"]), order="lexical")
    named = found(model, folders(tmp_path / "other", ["a", "b", "c"]), order="lexical")
    assert [named.labels.candidates(word) for word in ("a", "eel", "c")] == [(0,), (0,), (2,)]


def test_one_folder_too_many_is_said_with_those_that_hold_no_image(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    root = folders(tmp_path / "img", ["cat", "dog", "eel"])
    (root / "__pycache__").mkdir()
    with pytest.raises(CrispError, match=r"4 class folders face 3 outputs .* Without an image: __pycache__\."):
        found(prepared([0, 1, 2]), root)
    (root / "__pycache__").rename(root / ".hidden")
    assert found(prepared([0, 1, 2]), root).labels.name(2) == "eel"


def test_class_order_wants_one_folder_an_output(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    with pytest.raises(CrispError, match="has 2 class folders and the model 3 outputs"):
        found(prepared([0, 1, 2]), folders(tmp_path / "img", ["a", "b"]), order="natural")
