"""CIFAR archives as published: folders and tar files, and pickles that would run a program."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crisp_onnx.data import cifar
from crisp_onnx.data.classes import Classes
from crisp_onnx.data.labels import labels_from_names
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.sources import open_images, source_names
from crisp_onnx.data.unpickle import read_pickle
from crisp_onnx.errors import CrispError

UNIT = Preprocess((0.0,) * 3, (1.0,) * 3, (32, 32), scale=1.0)
NAMES = ["airplane", "bird", "cat"]
KEPT = Classes((0, 2), ("airplane", "cat"))


def part(count: int, seed: int) -> tuple[Any, list[int]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), np.uint8), [*range(3), *random.integers(0, 3, count - 3).tolist()]


def python2(content: dict[str, Any]) -> bytes:
    """Pickled like the published files: protocol 2 with the old module name and byte strings for keys."""
    text = pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2)
    return text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def python3(content: dict[str, Any]) -> bytes:
    return pickle.dumps(content, protocol=4)


def cifar10(folder: Path, dump: Callable[[dict[str, Any]], bytes]) -> Path:
    root = folder / "cifar-10-batches-py"
    root.mkdir()
    for number in range(1, 6):
        data, labels = part(4, number)
        (root / f"data_batch_{number}").write_bytes(dump({"data": data, "labels": labels}))
    data, labels = part(5, 9)
    (root / "test_batch").write_bytes(dump({"data": data, "labels": labels}))
    (root / "batches.meta").write_bytes(dump({"label_names": NAMES}))
    return root


def cifar100(folder: Path, dump: Callable[[dict[str, Any]], bytes]) -> Path:
    root = folder / "cifar-100-python"
    root.mkdir()
    for split, count in (("train", 6), ("test", 4)):
        data, labels = part(count, count)
        content = {"data": data, "fine_labels": labels, "coarse_labels": [0] * count}
        (root / split).write_bytes(dump(content))
    (root / "meta").write_bytes(dump({"fine_label_names": NAMES, "coarse_label_names": ["all"]}))
    return root


def packed(root: Path) -> Path:
    path = root.with_name(root.name + ".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, root.name)
    return path


@pytest.mark.parametrize("dump", [python2, python3])
@pytest.mark.parametrize("archive", [False, True])
def test_cifar10_loads_from_a_folder_and_an_archive(
    tmp_path: Path, dump: Callable[[dict[str, Any]], bytes], archive: bool
) -> None:
    root = cifar10(tmp_path, dump)
    source = packed(root) if archive else root
    data, labels = (list(column) for column in zip(*(part(4, number) for number in range(1, 6)), strict=True))
    flat, outputs = np.concatenate(data), np.concatenate(labels)
    kept = np.isin(outputs, KEPT.indices)
    for path in (source, source / "train"):
        images = open_images(path, KEPT, None, UNIT)
        ((x, y),) = images.batches(100)
        np.testing.assert_array_equal(x, flat[kept].reshape(-1, 3, 32, 32))
        np.testing.assert_array_equal(y, outputs[kept])
    test = open_images(source / "test", Classes((1,), ("bird",)), None, UNIT)
    assert len(test) == part(5, 9)[1].count(1)


@pytest.mark.parametrize("archive", [False, True])
def test_cifar100_uses_its_fine_names(tmp_path: Path, archive: bool) -> None:
    root = cifar100(tmp_path, python2)
    source = packed(root) if archive else root
    labels = labels_from_names(["cat", "dog", "airplane"], "mine.txt")
    images = open_images(source / "test", Classes((0,), ("cat",)), labels, UNIT)
    assert len(images) == part(4, 4)[1].count(2)
    assert source_names(source)[2] == "cat"  # type: ignore[index]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content",
    [
        {"data": Bomb(), "fine_labels": [0]},
        {"data": [np.array([Bomb()], dtype=object)], "fine_labels": [0]},
        {"data": np.array(["text"]), "fine_labels": [0]},
        {"data": os.getcwd, "fine_labels": [0]},
        {"data": {1, 2}.union, "fine_labels": [0]},
    ],
)
def test_a_pickle_that_names_anything_else_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    root = cifar100(tmp_path, python2)
    (root / "train").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(CrispError, match=r"train is not read: .*Only NumPy arrays"):
        open_images(root, KEPT, None, UNIT)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n(S'touch exploded'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
        b"Pouter\n.",
        b"cnumpy\nndarray\n(I9999999999\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"",
        b"garbage",
        b"]q\x00.",
        b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        b"\x80\x02}" + b"(" * 5_000 + b"t" * 5_000 + b"K\x01s.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x02}p2147483647\n.",
        b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}.",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"}.",
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"}.",
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"}.",
        b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",
        b"I" + b"9" * 5_000 + b"\n.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x07\x00\x00\x00__doc__X\x04\x00\x00\x00pwnss\x86b.",
        b"\x80\x02cnumpy\nndarray\nN}X\x05\x00\x00\x00arrayK\x01s\x86b.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R(K\x01(J\xff\xff\xff\x7ftcnumpy\ndtype\n"
        b"(U\x02u1tR\x89U\x00tb.",
    ],
)
def test_handwritten_pickles_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opcodes: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CrispError, match="some file"):
        read_pickle(opcodes, "some file")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i2", "<f4", "?"])
def test_plain_arrays_come_back_at_every_protocol(protocol: int, dtype: str) -> None:
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(dtype))
    content = pickle.dumps({"a": array, "b": [1, "x", (2.5, None)], "c": array[0].copy()}, protocol=protocol)
    read = read_pickle(content, "some file")
    np.testing.assert_array_equal(read["a"], array)
    np.testing.assert_array_equal(read["c"], array[0])
    assert read["a"].dtype == array.dtype
    assert read["b"] == [1, "x", (2.5, None)]


def test_incomplete_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    root = cifar100(tmp_path, python3)
    whole = packed(root)
    (root / "train").unlink()
    with pytest.raises(CrispError, match="train cannot be read"):
        open_images(root, KEPT, None, UNIT)
    with pytest.raises(CrispError, match="holds no train"):
        open_images(packed(root), KEPT, None, UNIT)
    (root / "test").write_bytes(python3({"data": np.zeros((2, 5), np.uint8), "fine_labels": [0, 1]}))
    with pytest.raises(CrispError, match=r"not an array of \(n, 3072\) bytes"):
        open_images(root / "test", KEPT, None, UNIT)
    (root / "test").write_bytes(python3({"data": np.zeros((2, 3072), np.uint8)}))
    with pytest.raises(CrispError, match="lacks 'fine_labels'"):
        open_images(root / "test", KEPT, None, UNIT)
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    with pytest.raises(CrispError, match="not a readable archive"):
        open_images(whole, KEPT, None, UNIT)
    other = tmp_path / "photos.tar.gz"
    with tarfile.open(other, "w:gz") as archive:
        archive.add(root / "test", "photo.jpg")
    with pytest.raises(CrispError, match="only the Python versions"):
        open_images(other, KEPT, None, UNIT)


def multiplied(times: int) -> bytes:
    """A pickle that turns the same megabyte of text into bytes again and again."""
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20) + b"q\x00"
    again = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    return b"\x80\x02" + text + b"0]" + b"".join(again + b"a" for _ in range(times)) + b"."


def test_calls_do_not_multiply_what_a_pickle_holds() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CrispError, match="it multiplies what it holds"):
            read_pickle(multiplied(1000), "some file")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def nested(levels: int = 12, width: int = 10) -> Any:
    """A list whose text would have ten to the twelfth words."""
    content: list[Any] = ["x" * 10]
    for _ in range(levels):
        content = [content] * width
    return content


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    ("meta", "batch", "said"),
    [
        ({"fine_label_names": nested()}, {}, "fine_label_names of .* no list of names"),
        ({"fine_label_names": 7}, {}, "no list of names"),
        ({"fine_label_names": None}, {}, "no list of names"),
        ({"fine_label_names": []}, {}, "no list of names"),
        ({"fine_label_names": ["x" * 2000] * 3}, {}, "no list of names"),
        ({("a", 1): 2}, {}, "lacks 'fine_label_names' .it has nothing"),
        ({}, {"fine_labels": "abcdef"}, "fine_labels in train of .* no list of whole numbers"),
        ({}, {"fine_labels": None}, "no list of whole numbers"),
        ({}, {"fine_labels": [[1], [2, 3], 3, 4, 5, 6]}, "no list of whole numbers"),
        ({}, {"fine_labels": nested()}, "no list of whole numbers"),
        ({}, {"fine_labels": [10**400] * 6}, "no list of whole numbers"),
        ({}, {"fine_labels": [True] * 6}, "no list of whole numbers"),
        ({}, {"fine_labels": [0] * 5}, "6 images but 5 labels"),
        ({}, {"fine_labels": [9] * 6}, "label 9, but there are 3 class names"),
        ({}, {"data": None}, "holds NoneType, not an array"),
        ({}, {"data": [[1, 2], [3]]}, "holds list, not an array"),
        ({}, {"data": nested()}, "holds list, not an array"),
        ({}, {"data": np.zeros((6, 3072), np.int64)}, "holds int64"),
    ],
)
def test_odd_content_is_one_sentence_in_no_time(
    tmp_path: Path, meta: dict[Any, Any], batch: dict[str, Any], said: str, archive: bool
) -> None:
    root = cifar100(tmp_path, python3)
    if meta:
        (root / "meta").write_bytes(pickle.dumps(meta))
    content = {"data": np.zeros((6, 3072), np.uint8), "fine_labels": [0, 1, 2, 0, 1, 2], **batch}
    (root / "train").write_bytes(python3(content))
    start = time.perf_counter()
    with pytest.raises(CrispError, match=said):
        open_images(packed(root) if archive else root, KEPT, None, UNIT)
    assert time.perf_counter() - start < 5


def tar(path: Path, members: dict[str, bytes | tuple[bytes, str]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "link", [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../etc/passwd"), (tarfile.LNKTYPE, "a/meta")]
)
def test_links_in_an_archive_are_not_followed(tmp_path: Path, link: tuple[bytes, str]) -> None:
    with pytest.raises(CrispError, match=r"holds neither batches\.meta nor meta"):
        open_images(tar(tmp_path / "t.tar.gz", {"a/meta": link}), KEPT, None, UNIT)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [1 << 40, (1 << 30) + 1, 8 << 30])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("gz", [False, True])
def test_declared_sizes_are_not_believed(tmp_path: Path, size: int, kind: bytes, gz: bool) -> None:
    path = tmp_path / ("t.tar.gz" if gz else "t.tar")
    content = header("a/meta", size, kind) + b"x" * 2048
    path.write_bytes(gzip.compress(content) if gz else content)
    start = time.perf_counter()
    with pytest.raises(CrispError, match=r"t\.tar"):
        open_images(path, KEPT, None, UNIT)
    assert time.perf_counter() - start < 5


def test_an_archive_that_unpacks_without_end_or_in_many_parts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "MAX_ARCHIVE_BYTES", 1 << 20)
    path = tar(tmp_path / "t.tar.gz", {"other": bytes(4 << 20), "meta": b""})
    with pytest.raises(CrispError, match=r"is not a readable archive: it (unpacks|declares) .*more than 1 MiB"):
        open_images(path, KEPT, None, UNIT)
    path = tar(tmp_path / "u.tar.gz", {f"{n}": b"" for n in range(1500)})
    with pytest.raises(CrispError, match="more than 1000 files"):
        open_images(path, KEPT, None, UNIT)
    monkeypatch.setattr(cifar, "MAX_PICKLE_BYTES", 1000)
    root = cifar100(tmp_path, python3)
    with pytest.raises(CrispError, match=r"train cannot be read: it is larger than"):
        open_images(root, KEPT, None, UNIT)


@pytest.mark.parametrize("name", ["t.tar.gz", "t.tgz", "t.tar"])
@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", os.urandom(4096), b"\x1f\x8b" + os.urandom(400), bytes(2048)])
def test_what_is_no_archive_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CrispError, match=r"t\.t.*Fetch it again|holds neither"):
        open_images(tmp_path / name, KEPT, None, UNIT)
