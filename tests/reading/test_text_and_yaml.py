"""Text files and strict YAML: sizes, encodings, and everything in YAML that multiplies, runs, or means two things."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import read_text, read_yaml, yaml_text
from crisp_onnx.reading.strict_yaml import _loaded

BILLION = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def yaml_of(folder: Path, text: str | bytes) -> Path:
    path = folder / "r.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text_is_read_in_utf8_with_or_without_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t").write_bytes("Straße\n犬".encode(encoding))
    assert read_text(tmp_path / "t", "class list") == "Straße\n犬"


def test_what_is_no_text_too_large_or_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("café".encode("latin-1"))
    with pytest.raises(CrispError, match=r"The class list .*/t is not UTF-8 text \(byte 3\)"):
        read_text(tmp_path / "t", "class list")
    with pytest.raises(CrispError, match=r"The class list .*/none cannot be read: No such file"):
        read_text(tmp_path / "none", "class list")
    with pytest.raises(CrispError, match=r"cannot be read: Is a directory"):
        read_text(tmp_path, "class list")
    with pytest.raises(CrispError, match=r"cannot be read: embedded null byte"):
        read_text(tmp_path / "a\0b", "class list")
    with pytest.raises(CrispError, match=r"/dev/zero is larger than 16 MiB"):
        read_text(Path("/dev/zero"), "class list")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BILLION, "alias"),
        ("a: {<<: [1]}\nb: !!timestamp 2020-99-99", "tag tag:yaml.org,2002:timestamp"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: !!int nonsense", "tag"),
        ("a: !!binary '='", "tag"),
        (f"a: {'9' * 5000}", "a number of 5000 digits"),
        ("a: 1\na: 2", "line 2: duplicate key 'a'"),
        ("[a, b]: 1", "duplicate key"),
        ("? {a: b}\n: 1", "duplicate key"),
        ("[" * 100_000, "too deep"),
        ("a: [1, 2", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("- " * 3000 + "x", "too deep"),
        ("a:\n" + "- x\n" * 30_000, "too deep or too many entries"),
        ("a: " + "x" * 300_000, "larger than 256 KiB"),
        ("- a\n- b\n", "no mapping"),
        ("", "no mapping"),
        ("%YAML 9.9\n---\na: 1", "r.yaml"),
        ("a: 1\n---\nb: 2", "r.yaml"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_every_trap_is_one_sentence_in_no_time(tmp_path: Path, text: str | bytes, said: str) -> None:
    start = time.perf_counter()
    with pytest.raises(CrispError) as caught:
        read_yaml(yaml_of(tmp_path, text), "recipe", "sparsity: 0.8")
    assert said in str(caught.value)
    assert "r.yaml" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - start < 5


def test_numbers_patterns_dates_and_words_mean_what_they_say(tmp_path: Path) -> None:
    path = yaml_of(tmp_path, "a: 1e9\nb: 2:4\nc: 2020-01-99\nd: on\ne: true\nf: 7\ng: null\nh: '5'\ni: -.5\nj: 1e999\n")
    assert read_yaml(path, "recipe", "a: 1") == {
        "a": 1e9, "b": "2:4", "c": "2020-01-99", "d": "on", "e": True, "f": 7, "g": None, "h": "5", "i": -0.5,
        "j": float("inf"),
    }  # fmt: skip


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
    | st.sampled_from(["2:4", "1e9", "0x1f", "1_000", "yes", "~", "2020-01-01", "=", "<<", "!x", "*a", "&a", "1:30"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), PLAIN, max_size=5))
def test_what_is_written_reads_back_to_the_same_values(content: dict[str, object]) -> None:
    assert _loaded(yaml_text(content), "r.yaml") == content
