"""Label files, class names of data sets, and names in a model's metadata."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.data.classes import read_classes
from crisp_onnx.data.exported_names import cut_names, labels_from_metadata
from crisp_onnx.data.label_files import read_labels
from crisp_onnx.data.label_rows import numbered
from crisp_onnx.data.labels import Label, Labels, aligned, labels_from_names
from crisp_onnx.errors import CrispError


def written(folder: Path, text: str, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_plain_lines_number_the_outputs(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "apple\naquarium_fish\n\n"))
    assert labels.entries == {0: Label("", ("apple",)), 1: Label("", ("aquarium_fish",))}


def test_comments_in_a_label_file_name_no_output(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "# trained in May\nC\nC#\n#hashtag\n#\n# the end\nF\n"))
    assert [labels.name(index) for index in range(len(labels))] == ["C", "C#", "#hashtag", "F"]
    with pytest.raises(CrispError, match="is empty"):
        read_labels(written(tmp_path, "# nothing yet\n"))


def test_a_line_in_double_quotes_is_what_stands_inside(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, '"ant"\n"bee, wild"\n"12"" pipe"\neel\n'))
    assert [labels.candidates(name) for name in ("ant", "bee, wild", '12" pipe', "eel")] == [(0,), (1,), (2,), (3,)]
    assert read_classes(written(tmp_path, '"ant"\nbee\n', "cls.txt"), labels, 4).indices == (0, 1)


def test_a_plain_line_may_begin_with_a_synset_id(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "n01440764 tench, Tinca tinca\nn01443537 goldfish\n"))
    assert labels.entries[0] == Label("n01440764", ("tench", "Tinca tinca"), "tench, Tinca tinca")
    assert labels.candidates("tinca_tinca") == labels.candidates("tench, Tinca tinca") == (0,)
    assert labels.name(0) == "tench"


def test_tabbed_lines_carry_their_own_index(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "# from somewhere\n7\tn01440764\ttench, Tinca tinca\n2\tgoldfish\n"))
    assert labels.entries == {
        7: Label("n01440764", ("tench", "Tinca tinca"), "tench, Tinca tinca"),
        2: Label("", ("goldfish",)),
    }


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


def test_a_comma_may_be_part_of_a_name(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "salt,pepper\nPepper,_bell___bad\nPepper,_bell___good\npepper\n"))
    assert labels.candidates("salt,pepper") == (0,)
    assert labels.candidates("Pepper,_bell___bad") == (1,)
    assert labels.candidates("salt") == (0,)
    assert [labels.name(i) for i in range(4)] == ["salt", "Pepper,_bell___bad", "Pepper,_bell___good", "pepper"]
    names = labels_from_names(["a, b", "a", "b, a"], "a test")
    assert [names.candidates(word) for word in ("a, b", "a", "b, a", "b")] == [(0,), (1,), (2,), ()]


def test_a_name_that_is_one_among_several_gives_way_to_the_usual_ones(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "drake, duck\nduck\nmaillot\nmaillot, tank suit\n"))
    assert labels.candidates("duck") == (1,)
    assert labels.candidates("maillot") == (2, 3)


def plain(count: int, first: int = 0) -> Labels:
    return Labels({index: Label("", (f"name {index}",)) for index in range(first, first + count)}, "labels.txt")


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "byte order mark"])
@pytest.mark.parametrize(
    ("rows", "offset"),
    [
        (5, "pass --labels-offset 1; if it is that of output 0, --labels-offset 0"),
        (7, "pass --labels-offset -1; if its last"),
        (24, "Give the label file of this model"),
    ],
)
def test_a_label_file_of_another_length_is_refused_with_the_remedy(
    tmp_path: Path, rows: int, offset: str, mark: str
) -> None:
    labels = read_labels(written(tmp_path, mark + "".join(f"name {row}\r\n" for row in range(rows))))
    with pytest.raises(CrispError, match=rf"labels.txt names {rows} outputs, but the model has 6.*{offset}"):
        aligned(labels, 6, None)


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        (plain(6, 1), "If it counts from 1, pass --labels-offset -1"),
        (plain(2, 5), "names output 6, but the model has 6"),
    ],
)
def test_indices_beyond_the_outputs_are_refused(labels: Labels, remedy: str) -> None:
    with pytest.raises(CrispError, match=remedy):
        aligned(labels, 6, None)


@pytest.mark.parametrize("labels", [plain(6), plain(5, 1), Labels({1: Label("", ("a",)), 4: Label("", ("b",))}, "x")])
def test_names_with_an_index_may_leave_outputs_out(labels: Labels) -> None:
    assert aligned(labels, 6, None) == labels


@pytest.mark.parametrize(("rows", "offset"), [(5, 1), (5, 0), (7, -1), (7, 0), (4, 1), (8, -1), (1, 5), (6, 0)])
def test_an_offset_moves_the_names_and_drops_what_falls_beside(rows: int, offset: int) -> None:
    moved = aligned(plain(rows), 6, offset)
    expected = {row + offset: f"name {row}" for row in range(rows) if 0 <= row + offset < 6}
    assert {index: label.name for index, label in moved.entries.items()} == expected


@pytest.mark.parametrize(("rows", "offset", "lost"), [(6, -1, "name 0"), (6, 5, "name 1"), (7, 1, "name 5")])
def test_an_offset_that_moves_names_beside_outputs_that_go_without_is_refused(
    rows: int, offset: int, lost: str
) -> None:
    with pytest.raises(CrispError, match=f"fall on no output, '{lost}' first, while output . has none"):
        aligned(plain(rows), 6, offset)


@pytest.mark.parametrize("offset", [6, -6, 10**6])
def test_an_offset_that_leaves_nothing_is_refused(offset: int) -> None:
    with pytest.raises(CrispError, match=f"With --labels-offset {offset}, no name"):
        aligned(plain(6), 6, offset)


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("names", "{0: 'ant', 1: 'bee', 2: 'cat'}", "{0: 'cat', 1: 'ant'}"),
        ("names", '{"0": "ant", "1": "bee", "2": "cat"}', '{"0": "cat", "1": "ant"}'),
        ("classes", '["ant", "bee", "cat"]', '["cat", "ant"]'),
        ("labels", "['ant', 'bee', 'cat']", "['cat', 'ant']"),
        ("class_names", "ant\nbee\ncat\n", "cat\nant"),
        ("Labels", 'ant, bee, "cat, big"', '"cat, big", ant'),
        (
            "id2label",
            '{"0": "n01440764 ant, emmet", "1": "bee", "2": "cat"}',
            '{"0": "cat", "1": "n01440764 ant, emmet"}',
        ),
        ("label2id", '{"ant": 0, "bee": 1, "cat": 2}', '{"cat": 0, "ant": 1}'),
        ("nc", "3", "2"),
        ("num_classes", " 3 ", "2"),
    ],
)
def test_names_follow_the_outputs_that_are_kept(key: str, before: str, after: str) -> None:
    assert cut_names({"author": "x", "stride": "32", key: before}, (2, 0), 3) == ({key: after}, ())


def test_names_that_do_not_fit_the_outputs_cannot_be_cut() -> None:
    names = {"names": "['ant', 'bee', 'cat', 'dog']", "id2label": "{0: 'ant', 1: 'bee'}", "nc": "80"}
    assert cut_names(names, (2, 0), 3) == ({}, ("names", "id2label"))


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", f"{'9' * 5000}\tcat\n"),
        ("l.json", '{"' + "9" * 5000 + '": "cat"}'),
        ("l.json", "[" * 100_000),
        ("l.json", "-" * 9_000 + "1"),
        ("l.json", "(" * 2_000_000),
        ("l.json", f"[{'9' * 5000}]"),
    ],
)
def test_numbers_and_nesting_beyond_reason_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(CrispError, match=r"l\.(txt|json)"):
        read_labels(written(tmp_path, text, name))


ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox")
SHUFFLED = (5, 3, 1, 0, 2, 4)


def rows(form: str, *, head: str = "", start: int = 0) -> str:
    return head + "".join(form.format(i=i + start, n=ANIMALS[i], s=f"n0000000{i}") + "\n" for i in SHUFFLED)


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt"])
@pytest.mark.parametrize(
    "text",
    [
        *(rows(form) for form in (
            "{n},{i}", "{i},{n}", "{i}, {n}", "{i};{n}", "{n}|{i}", "{i}: {n}", "{n}: {i}", "{i}: '{n}',", "{i}={n}",
            "{i}\t{n}", "{n}\t{i}", "{i}  {n}", "{n} {i}", "{i}. {n}", "{i}) {n}", "[{i}] {n}", "{i} - {n}",
            "{s} {i} {n}", "{i},{s},{n}", "{s},{i},{n}", '{i},"{n}"', '"{i}","{n}"',
        )),
        rows("{i},{n}", head="id,name\n"),
        rows("{n},{i}", head="name,index\n"),
        rows("{n},{i},{i}0", head="name,class_id,images\n"),
        rows("{i} {n}", head="# made by hand\n\nid name\n"),
        rows("{i}\t{n}", head="index\tname\n"),
        rows("  {i}: {n}", head="names:\n"),
        "{0: 'ant', 1: 'bee',\n 2: 'cat', 3: 'dog', 4: 'eel', 5: 'fox'}",
        '["ant", "bee", "cat", "dog", "eel", "fox"]',
        '{"ant": 0, "bee": 1, "cat": 2, "dog": 3, "eel": 4, "fox": 5}',
    ],
)  # fmt: skip
def test_lines_that_carry_their_index_are_never_numbered_by_their_place(tmp_path: Path, name: str, text: str) -> None:
    labels = read_labels(written(tmp_path, text, name))
    assert {index: label.names[0] for index, label in labels.entries.items()} == dict(enumerate(ANIMALS))


def test_the_index_that_pandas_writes_is_not_that_of_the_outputs(tmp_path: Path) -> None:
    text = ",name,class_id\n" + "".join(f"{row},{ANIMALS[i]},{i}\n" for row, i in enumerate(SHUFFLED))
    assert read_labels(written(tmp_path, text)).candidates("dog") == (3,)
    with pytest.raises(CrispError, match=r"not clear which of them"):
        read_labels(written(tmp_path, text.partition("\n")[2]))


@pytest.mark.parametrize("form", ["{i},{n}", "{n},{i}", "{i}  {n}", "{i}: {n}"])
def test_an_index_that_counts_from_one_needs_its_offset(tmp_path: Path, form: str) -> None:
    labels = read_labels(written(tmp_path, rows(form, start=1)))
    with pytest.raises(CrispError, match=r"pass --labels-offset -1"):
        aligned(labels, 6, None)
    assert aligned(labels, 6, -1).candidates("dog") == (3,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,ant\n1,bee\n1,cat\n", "line 3: output 1 is named a second time"),
        ("0,ant\nbee\n2,cat\n", "line 2: 'bee' has no output index"),
        ("ant,0\nbee,x\ncat,2\n", "line 2: 'bee,x' has no output index"),
        ("-1,background\n0,ant\n1,bee\n", "line 1: '-1,background' has no output index"),
        ("0 ant\n1 bee\n1 cat\n3 dog\n", "no output indices from 0 to 3"),
        ("0 ant\n1 bee\ncat\n3 dog\n4 eel\n", "line 3: 'cat' does not begin with an output index"),
        ("ant,4\nbee,2\ncat,9\n", "not clear which"),
        ("0,ant\n1,\n2,cat\n", "line 2: output 1 has no name"),
        ("{0: 'ant', 0: 'bee', }}", "holds no names"),
    ],
)
def test_what_carries_its_index_in_no_clear_way_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CrispError, match=message):
        read_labels(written(tmp_path, text))


@pytest.mark.parametrize(
    "names",
    [
        ["class 0", "class 2", "class 1"],
        ["Boeing 747", "Airbus 320", "Airbus 380"],
        ["5 euro", "10 euro", "20 euro"],
        ["2 of hearts", "3 of hearts", "2 of spades", "3 of spades"],
        ["2012 Audi A4", "2011 Audi A3", "2012 BMW M3", "2009 BMW X5"],
        ["salt,pepper", "pepper,7"],
        ["7", "3", "0"],
        ["[background]", "[cat]"],
    ],
)
def test_numbers_that_are_a_part_of_names_number_nothing(tmp_path: Path, names: list[str]) -> None:
    labels = read_labels(written(tmp_path, "\n".join(names)))
    assert [labels.candidates(name) for name in names] == [(place,) for place in range(len(names))]


def test_a_copied_line_of_a_label_file_is_a_name_too(tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, rows("{i}  {n}"))).candidates("3  dog") == (3,)


CONFIGURATION = {"id2label": dict(enumerate(ANIMALS)), "label2id": {"ant": 0}, "architectures": ["ViT"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "path: x\nnc: 6\nnames:\n" + rows("  {i}: {n}")),
        ("data.yml", f"names: [{', '.join(ANIMALS)}]\n"),
        ("l.yaml", "".join(f"- {name}\n" for name in ANIMALS)),
        ("l.yaml", rows("{i}: {n}")),
        ("l.yaml", rows("{n}: {i}")),
        ("config.json", json.dumps(CONFIGURATION)),
        ("config.json", json.dumps({"label2id": {name: i for i, name in enumerate(ANIMALS)}})),
        ("names.txt", json.dumps({"names": ANIMALS})),
        ("folders.json", json.dumps({"class_to_idx": {name: i for i, name in enumerate(ANIMALS)}})),
        ("folders.json", json.dumps({"idx_to_class": dict(enumerate(ANIMALS))})),
        ("config.json", json.dumps({"architecture": "resnet18", "num_classes": 6, "label_names": ANIMALS})),
    ],
)
def test_configurations_name_the_outputs(tmp_path: Path, name: str, text: str) -> None:
    labels = read_labels(written(tmp_path, text, name))
    assert {index: label.name for index, label in labels.entries.items()} == dict(enumerate(ANIMALS))


def test_words_of_yaml_are_names(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "names: [no, 007, null, true]\n", "l.yaml"))
    assert [labels.name(index) for index in range(4)] == ["no", "007", "null", "true"]


@given(st.permutations(range(9)), st.sampled_from([",", "\t", ": ", "  ", " | "]), st.booleans())
def test_any_order_of_lines_names_the_same_outputs(order: list[int], separator: str, behind: bool) -> None:
    lines = [separator.join((f"thing{i}", str(i)) if behind else (str(i), f"thing{i}")) for i in order]
    entries = numbered(lines, Path("labels"))
    assert entries is not None
    assert {index: label.name for index, label in entries.items()} == {i: f"thing{i}" for i in range(9)}


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("labels", "red;green;blue", "blue;red"),
        ("class_labels", '["red", "green", "blue"]', '["blue", "red"]'),
        ("CLASSES", "red\ngreen\nblue", "blue\nred"),
        ("category_names", "red, green, blue", "blue, red"),
        ("class_count", "3", "2"),
    ],
)
def test_names_under_other_keys_and_with_other_separators_are_cut_too(key: str, before: str, after: str) -> None:
    assert cut_names({key: before}, (2, 0), 3) == ({key: after}, ())


def test_what_cannot_be_cut_is_named_and_other_lists_stay() -> None:
    entries = {"classes": '[{"id": 0}, {"id": 1}, {"id": 2}]', "class_weights": "1, 2", "mean": "0.1, 0.2, 0.3"}
    assert cut_names(entries, (2, 0), 3) == ({}, ("classes",))


def test_indices_by_name_are_names_too() -> None:
    labels = labels_from_metadata({"label2id": '{"cat": 1, "dog": 0}'})
    assert labels is not None
    assert labels.name(1) == "cat"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\x85"])
@pytest.mark.parametrize("name", ["labels.txt", "labels.json"])
def test_more_lines_than_any_model_has_outputs_are_refused_before_they_are_read(
    tmp_path: Path, end: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crisp_onnx.data.labels.MAX_LABELS", 5)
    path = tmp_path / name
    for count in (5, 6):
        words = [f"n{place}" for place in range(count)]
        path.write_bytes((json.dumps({"names": words}) if name.endswith("json") else end.join([*words, ""])).encode())
        if count == 5:
            assert len(read_labels(path)) == 5
        else:
            with pytest.raises(CrispError, match=r"The label file .* holds 6 entries, and at most 5 outputs"):
                read_labels(path)
    with pytest.raises(CrispError, match=r"The class list .* holds 6 entries"):
        path.write_text("a\n" * 6)
        read_classes(path, None, 10)


def test_half_a_million_equal_names_are_counted_in_no_time() -> None:
    labels = Labels({index: Label("", ("7",)) for index in range(1 << 17)}, "names")
    start = time.process_time()
    assert len(labels.numbers[7]) == 1 << 17
    assert time.process_time() - start < 5
