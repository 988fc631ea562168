"""`Store`: what is kept comes back, whatever lies in the folder, and writers at once lose nothing."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.say_once import say_once
from crisp_onnx.store import MAX_BYTES, Store, cache_folder

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@settings(max_examples=25)
@given(entries=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=5))
def test_what_is_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, object]) -> None:
    folder = tmp_path_factory.mktemp("store") / "deep" / "er"
    for key, value in entries.items():
        Store(folder).put(key, "an older value")
        Store(folder).put(key, value)
    assert {key: Store(folder).get(key) for key in entries} == entries
    assert Store(folder).get("another key" * 9) is None
    assert not entries or len(list(folder.iterdir())) == len(entries)


def test_without_a_folder_nothing_is_kept() -> None:
    store = Store(None)
    store.put("a", 1)
    assert store.get("a") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_four_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    children = []
    for name in "abcd":
        child = os.fork()
        if not child:
            try:
                for number in range(100):
                    store.put(f"{name} {number}", number)
                    store.put("shared", [name] * 50)
            finally:
                os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert all(store.get(f"{name} {number}") == number for name in "abcd" for number in range(100))
    assert store.get("shared") in [[name] * 50 for name in "abcd"]
    assert len(list(tmp_path.iterdir())) == 401


def entry(tmp_path: Path) -> Path:
    Store(tmp_path).put("key", 1)
    return next(tmp_path.iterdir())


DAMAGES = {
    "half": b"{ half a file",
    "empty": b"",
    "no object": b"[]",
    "no value": b'{"key": "key"}',
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a number of 9,000 digits": b'{"key": "key", "value": ' + b"9" * 9_000 + b"}",
    "too large": b'{"key": "key", "value": 1}' + b" " * MAX_BYTES,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_absent_and_made_anew(tmp_path: Path, damage: bytes) -> None:
    entry(tmp_path).write_bytes(damage)
    store = Store(tmp_path)
    found = store.get("key")
    assert found is None or isinstance(found, int)  # older Pythons read a number of any length
    store.put("key", 2)
    assert store.get("key") == 2


def test_an_entry_of_another_key_is_absent(tmp_path: Path) -> None:
    entry(tmp_path).write_text('{"key": "other", "value": 1}')
    assert Store(tmp_path).get("key") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_or_a_folder_in_the_place_of_an_entry_does_not_stop_a_run(tmp_path: Path) -> None:
    file = entry(tmp_path)
    file.unlink()
    os.mkfifo(file)
    store = Store(tmp_path)
    assert store.get("key") is None
    store.put("key", 2)
    assert store.get("key") == 2
    file.unlink()
    file.mkdir()
    assert store.get("key") is None
    store.put("key", 3)
    assert store.get("key") is None


def test_a_folder_that_cannot_be_used_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            Store(tmp_path / "file").put(str(number), 1)
            assert Store(tmp_path / "file").get(str(number)) is None
    assert [record.message.split(" in ")[0] for record in caplog.records] == [
        "Results cannot be kept",
        "What is kept",
    ]


def test_the_cache_lies_where_the_user_says_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crisp_onnx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "crisp_onnx"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None


ARRAYS = {
    "layer/weight:0": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "": np.array(7, np.int64),
    "../../out": np.zeros((0, 3), np.uint8),
    "flags": np.array([[True], [False]]),
    "half": np.array([1.5, np.inf], np.float16),
}


def test_arrays_come_back_with_what_is_said_of_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep")
    store.put_arrays("key", ARRAYS, {"step": 3})
    store.put("key", "a value of the same key")
    found = store.get_arrays("key")
    assert found is not None
    value, arrays = found
    assert (value, list(arrays)) == ({"step": 3}, list(ARRAYS))
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(arrays[name], array)
        assert arrays[name].flags.writeable
    assert store.get("key") == "a value of the same key"
    assert store.get_arrays("other") is None
    assert Store(None).get_arrays("key") is None


def test_what_would_have_to_be_pickled_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        Store(tmp_path).put_arrays("key", {"a": np.array([{}], object)})
    assert list(tmp_path.iterdir()) == []


def pickled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", '{"key": "key", "value": 1, "names": ["a"]}')
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.array([{}], object), allow_pickle=True)
        archive.writestr("0.npy", stream.getvalue())


def promising(path: Path) -> None:
    """The header says a terabyte, the file holds eight bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", '{"key": "key", "value": 1, "names": ["a"]}')
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)})
        archive.writestr("0.npy", stream.getvalue() + bytes(8))


def squeezed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.json", '{"key": "key", "value": 1, "names": []}' + " " * (1 << 24))


@pytest.mark.parametrize(
    "damage",
    [
        pickled, promising, squeezed,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"\x93NUMPY", b"\x00NUMPY")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'|O' ")),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"names"', b'"manes"')),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"key": "key"', b'"key": "kex"')),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
)  # fmt: skip
def test_damaged_arrays_are_absent_and_made_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = Store(tmp_path)
    store.put_arrays("key", ARRAYS)
    damage(next(tmp_path.iterdir()))
    assert store.get_arrays("key") is None
    store.put_arrays("key", ARRAYS)
    assert store.get_arrays("key") is not None


@settings(max_examples=200)
@given(st.data())
def test_flipped_bytes_of_an_entry_never_stop_a_run(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    store = Store(folder)
    store.put_arrays("key", ARRAYS)
    path = next(folder.iterdir())
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    store.get_arrays("key")
