"""Class lists: indices, names and synset ids, and every way in which a line can be wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.data.classes import Classes, Labels, read_classes, resolve, wanted
from crisp_onnx.data.label_files import read_labels
from crisp_onnx.data.labels import labels_from_names
from crisp_onnx.errors import CrispError

FRUIT = labels_from_names(["apple", "pear tree", "orange", "n00000004 plum, prune"], "fruit.txt")


@pytest.fixture
def imagenet(shared_data: Path) -> Labels:
    return read_labels(shared_data / "imagenet_labels.txt")


def listed(folder: Path, text: str) -> Path:
    path = folder / "cls.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_indices_names_and_synsets_mix_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "# fruit\n\n  Pear_Tree   # a tree\nn00000004\n0\n"
    classes = read_classes(listed(tmp_path, text), FRUIT, 4)
    assert classes == Classes((1, 3, 0), ("pear tree", "plum, prune", "apple"))


def test_without_labels_indices_are_enough(tmp_path: Path) -> None:
    assert read_classes(listed(tmp_path, "3\n1\n"), None, 4) == Classes((3, 1), ("3", "1"))


def test_rows_copied_from_a_label_file_are_a_class_list(tmp_path: Path, imagenet: Labels) -> None:
    text = "134\tn02012849\tcrane\n517\tn03126707\tcrane\n"
    assert read_classes(listed(tmp_path, text), imagenet, 1000).indices == (134, 517)
    with pytest.raises(CrispError, match=r"line 1: '134' is output 134 \(n02012849, crane\), which is not 'tench'"):
        read_classes(listed(tmp_path, "134\ttench\n"), imagenet, 1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a comment\n\n", "is empty"),
        ("apple\nappel\n", r"line 2: no output is named 'appel' in fruit.txt. Did you mean 'apple'"),
        ("apple\nxylophone\n", r"line 2: no output is named 'xylophone'"),
        ("4\n", r"line 1: '4' is output 4, but the model has 4 outputs \(0 to 3\)"),
        ("-1\n", r"line 1: '-1' is output -1"),
        ("apple\norange\n\n0\n", r"line 4: '0' is output 0, which line 1 names already"),
        ("n99999999\n", r"line 1: no output has the synset id 'n99999999'"),
        ("apple; 2, pear tree\n", r"line 1: 'apple; 2, pear tree' is several classes. Write one class a line"),
        ("apple, 4\n", r"line 1: no output is named 'apple, 4'"),
    ],
)
def test_a_wrong_class_list_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CrispError, match=message) as error:
        read_classes(listed(tmp_path, text), FRUIT, 4)
    assert "cls.txt" in str(error.value)
    assert error.value.exit_code == 2


def test_a_name_without_any_labels_says_how_to_give_them(tmp_path: Path) -> None:
    with pytest.raises(CrispError, match="--labels"):
        read_classes(listed(tmp_path, "apple\n"), None, 4)


@pytest.mark.parametrize(
    ("word", "first", "second"),
    [("crane", "134 (n02012849", "517 (n03126707"), ("Maillot", "638 (n03710637", "639 (n03710721")],
)
def test_an_ambiguous_name_lists_its_outputs(imagenet: Labels, word: str, first: str, second: str) -> None:
    with pytest.raises(CrispError) as error:
        resolve(word, imagenet, 1000)
    assert first in str(error.value)
    assert second in str(error.value)


def test_the_nearest_of_a_thousand_names_is_listed(imagenet: Labels) -> None:
    with pytest.raises(CrispError, match="'golf ball'"):
        resolve("golfball", imagenet, 1000)


def test_a_whole_number_is_an_index_but_for_outputs_named_by_numbers(caplog: pytest.LogCaptureFixture) -> None:
    turned = labels_from_names(["0", "180", "270", "90"], "folders")
    assert [resolve(word, turned, 4) for word in ("0", "90", "180", "3")] == [0, 3, 1, 3]
    folders = labels_from_names(sorted(map(str, range(1, 13))), "folders")
    assert [resolve(word, folders, 12) for word in ("1", "2", "10")] == [0, 4, 1]
    with pytest.raises(CrispError, match="'0' names no output"):  # as an index, beside 1 as a name
        resolve("0", folders, 12)
    mixed = labels_from_names(["7", "one", "0"], "mixed.txt")
    with caplog.at_level(logging.WARNING):
        assert [resolve("0", mixed, 3), resolve("0", mixed, 3, quoted=True), resolve("7", mixed, 3)] == [0, 2, 0]
    assert "'0' is read as output 0, not as the name of output 2" in caplog.text


def test_what_stands_in_quotes_is_a_name(tmp_path: Path) -> None:
    labels = labels_from_names(["#3", "No #1", 'a "b"', "1", "c, d"], "names.txt")
    text = '"#3"\n"No #1"  # the first\n"a ""b"""\n"1"\nc, d\n'
    assert read_classes(listed(tmp_path, text), labels, 5) == Classes(
        (0, 1, 2, 3, 4), ("#3", "No #1", 'a "b"', "1", "c, d")
    )
    with pytest.raises(CrispError, match=r"line 1: .*goes on behind the closing quote"):
        read_classes(listed(tmp_path, '"1" 2\n'), labels, 5)
    with pytest.raises(CrispError, match="line 1: no output is named '#4'"):
        read_classes(listed(tmp_path, '"#4"\n'), labels, 5)


@pytest.mark.parametrize("line", ["#3", "No #1"])
def test_a_comment_that_is_the_name_of_an_output_is_no_comment(tmp_path: Path, line: str) -> None:
    labels = labels_from_names(["#3", "No #1", "No"], "names.txt")
    with pytest.raises(CrispError, match=r"line 2: .* holds a comment, but output . is named so\. Write"):
        read_classes(listed(tmp_path, f"# a comment\n{line}\n"), labels, 3)


def test_classes_refuse_duplicates_and_emptiness() -> None:
    with pytest.raises(CrispError, match="Output 3 is in the list of classes twice"):
        Classes((3, 1, 3), ("a", "b", "c"))
    with pytest.raises(CrispError, match="empty"):
        Classes((), ())
    with pytest.raises(CrispError, match="2 classes have 1 names"):
        Classes((1, 2), ("a",))


def test_a_name_in_a_data_set_is_wanted_unwanted_or_ambiguous(imagenet: Labels) -> None:
    kept = Classes((517, 2), ("crane", "great white shark"))
    assert wanted("great_white_shark", kept, imagenet) == 2
    assert wanted("tench", kept, imagenet) is None
    assert wanted("maillot", kept, imagenet) is None
    assert wanted("Great White Shark", kept, None) == 2
    with pytest.raises(CrispError, match="may be output 134"):
        wanted("crane", kept, imagenet)


@given(st.lists(st.integers(0, 9), min_size=1, unique=True))
def test_any_list_of_indices_comes_back(tmp_path_factory: pytest.TempPathFactory, indices: list[int]) -> None:
    path = listed(tmp_path_factory.mktemp("classes"), "\n".join(map(str, indices)))
    assert read_classes(path, None, 10).indices == tuple(indices)


def test_a_number_of_thousands_of_digits_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("9" * 5000)
    with pytest.raises(CrispError, match="is not an output index"):
        read_classes(tmp_path / "c.txt", None, 10)
