"""Label files, class names of data sets, and names in a model's metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.data.labels import Label, labels_from_metadata, labels_from_names, read_labels
from crisp_onnx.errors import CrispError


def written(folder: Path, text: str, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_plain_lines_number_the_outputs(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "apple\naquarium_fish\n\n"))
    assert labels.entries == {0: Label("", ("apple",)), 1: Label("", ("aquarium_fish",))}


def test_a_plain_line_may_begin_with_a_synset_id(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "n01440764 tench, Tinca tinca\nn01443537 goldfish\n"))
    assert labels.entries[0] == Label("n01440764", ("tench", "Tinca tinca"))
    assert labels.candidates("tinca_tinca") == labels.candidates("tench, Tinca tinca") == (0,)


def test_tabbed_lines_carry_their_own_index(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "# from somewhere\n7\tn01440764\ttench, Tinca tinca\n2\tgoldfish\n"))
    assert labels.entries == {7: Label("n01440764", ("tench", "Tinca tinca")), 2: Label("", ("goldfish",))}


def test_the_label_file_of_imagenet_is_read_whole(shared_data: Path) -> None:
    labels = read_labels(shared_data / "imagenet_labels.txt")
    assert sorted(labels.entries) == list(range(1000))
    assert labels.candidates("Great_White  shark") == (2,)
    assert labels.candidates("crane") == (134, 517)
    assert labels.candidates("n03126707") == (517,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("apple\n\nbear\n", "line 2 is blank"),
        ("0\tn01440764\ttench\nx\tn01443537\tgoldfish\n", "line 2"),
        ("0\tn01440764\ttench\n0\tn01443537\tgoldfish\n", "line 2: output 0 is named a second time"),
        ("0\t\n", "line 1"),
    ],
)
def test_a_wrong_label_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CrispError, match=message) as error:
        read_labels(written(tmp_path, text))
    assert "labels.txt" in str(error.value)


def test_a_missing_or_binary_label_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"none\.txt cannot be read"):
        read_labels(tmp_path / "none.txt")
    path = tmp_path / "binary.txt"
    path.write_bytes(b"\xff\xfe\x00abc")
    with pytest.raises(CrispError, match="not UTF-8"):
        read_labels(path)


def test_json_label_files_are_read(tmp_path: Path) -> None:
    index = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
    assert read_labels(written(tmp_path, json.dumps(index), "i.json")).entries[1] == Label("n01443537", ("goldfish",))
    assert read_labels(written(tmp_path, '["a", "b"]', "l.json")).candidates("b") == (1,)
    with pytest.raises(CrispError, match="holds no names"):
        read_labels(written(tmp_path, '{"a": [1]}', "w.json"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'person', 1: 'traffic light'}"),
        ("labels", '["person", "traffic light"]'),
        ("classes", "person, traffic light"),
        ("class_names", "person\ntraffic light\n"),
        ("id2label", '{"0": "person", "1": "traffic light"}'),
        ("Names", "{'person': 0, 'traffic light': 1}"),
    ],
)
def test_names_in_metadata_are_understood(key: str, text: str) -> None:
    labels = labels_from_metadata({"author": "x", key: text})
    assert labels is not None
    assert labels.candidates("traffic_light") == (1,)
    assert key.casefold() in labels.source


@pytest.mark.parametrize("text", ["", "10", "{0: 'a', 'b': 'c'}", "[1, 2]", "__import__('os')", "(" * 5000])
def test_other_metadata_is_no_list_of_names(text: str) -> None:
    assert labels_from_metadata({"names": text}) is None


@given(st.lists(st.from_regex(r"[a-z]{1,8}( [a-z]{1,8})?", fullmatch=True), min_size=1, unique=True))
def test_every_name_leads_back_to_its_output(names: list[str]) -> None:
    labels = labels_from_names(names, "a test")
    assert len(labels) == len(names)
    for index, name in enumerate(names):
        assert labels.candidates(name.upper().replace(" ", "_")) == (index,)


def test_names_are_compared_composed_and_always_print() -> None:
    labels = labels_from_names(["cafe\u0301", "b\ud800", "c\x1b[2J", "d"], "x")
    assert labels.candidates("café") == (0,)
    assert labels.candidates("CAFÉ") == (0,)
    assert [label.name for label in labels.entries.values()] == ["cafe\u0301", r"b\ud800", r"c\x1b[2J", "d"]
    assert labels.candidates("b\ud800") == labels.candidates(r"b\ud800") == (1,)
