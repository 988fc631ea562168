"""`.npz` data sets and iterables of pairs: shapes, labels, laziness, and what is refused."""

from __future__ import annotations

import gc
import io
import math
import pickle
import shutil
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crisp_onnx.data import npz
from crisp_onnx.data.classes import Classes
from crisp_onnx.data.label_files import read_labels
from crisp_onnx.data.labels import labels_from_names
from crisp_onnx.data.npz import read_npz
from crisp_onnx.data.pixels import Picture
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.rows import FileRows
from crisp_onnx.data.sources import open_images, source_names
from crisp_onnx.errors import CrispError

RAW = Preprocess((0.0,) * 3, (1.0,) * 3, (6, 6), scale=1.0)
GREY = Preprocess((0.0,), (1.0,), (6, 6), scale=1.0)
KEPT = Classes((0, 1), ("0", "1"))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), np.uint8)
LABELS = np.array([0, 1, 2, 1])


def saved(folder: Path, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(folder / "d.npz", **arrays)
    return folder / "d.npz"


def loaded(source: Any, preprocess: Preprocess = RAW, classes: Classes = KEPT) -> tuple[Any, list[int]]:
    ((x, y),) = open_images(source, classes, None, preprocess).batches(100)
    assert y is not None
    return x, y.tolist()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_both_layouts_load_packed_and_unpacked(tmp_path: Path, compressed: bool, first: bool) -> None:
    stored = PIXELS.transpose(0, 3, 1, 2) if first else PIXELS
    x, y = loaded(saved(tmp_path, compressed, x=stored, y=LABELS))
    np.testing.assert_array_equal(x.transpose(0, 2, 3, 1), PIXELS[[0, 1, 3]])
    assert y == [0, 1, 1]


def test_pixels_stay_in_the_file_and_are_not_loaded(tmp_path: Path) -> None:
    for compressed in (False, True):
        arrays = read_npz(saved(tmp_path, compressed, x=PIXELS, y=LABELS))
        assert isinstance(arrays.store.array, FileRows)
        np.testing.assert_array_equal(arrays.store.array[:], PIXELS)


def test_arrays_in_fortran_order_and_labels_in_columns_load(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.asfortranarray(PIXELS), y=LABELS[:, None].astype(">i2"))
    x, y = loaded(path)
    np.testing.assert_array_equal(x.transpose(0, 2, 3, 1), PIXELS[[0, 1, 3]])
    assert y == [0, 1, 1]


def test_grey_alpha_and_other_sizes_are_converted(tmp_path: Path) -> None:
    grey = np.full((2, 9, 12), 77, np.uint8)
    x, _ = loaded(saved(tmp_path, x=grey, y=[0, 1]))
    assert x.shape == (2, 3, 6, 6)
    assert (x == 77).all()
    alpha = np.full((2, 6, 6, 4), 50, np.uint8)
    x, _ = loaded(saved(tmp_path, x=alpha, y=[0, 1]), GREY)
    assert x.shape == (2, 1, 6, 6)
    assert (x == 50).all()
    x, _ = loaded(saved(tmp_path, x=grey[:, None], y=[0, 1]), GREY)
    assert x.shape == (2, 1, 6, 6)


def test_labels_that_go_beyond_the_outputs_are_refused(tmp_path: Path) -> None:
    counted_from_one = saved(tmp_path, x=PIXELS, y=LABELS + 1)
    with pytest.raises(CrispError, match=r"d\.npz holds the label 3, but the model's outputs are 0 to 2, .* from 0"):
        open_images(counted_from_one, KEPT, None, RAW, 3)
    with pytest.raises(CrispError, match=r"Element 2 of the data has the label 3"):
        open_images(zip(PIXELS, (LABELS + 1).tolist(), strict=True), KEPT, None, RAW, 3)
    unknown = saved(tmp_path, x=PIXELS, y=np.array([0, -1, 1, -1]))
    assert len(open_images(unknown, KEPT, None, RAW, 3)) == 2


def test_class_names_lead_through_the_resolver(tmp_path: Path) -> None:
    labels = labels_from_names(["dog", "cat"], "pets.txt")
    path = saved(tmp_path, x=PIXELS, y=LABELS, classes=np.array(["Cat", "dog", "stone"]))
    images = open_images(path, KEPT, labels, RAW)
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 0]
    assert images.left_out == ("1 images of no wanted class",)
    assert source_names(path) == ("Cat", "dog", "stone")


def test_a_name_that_two_outputs_bear_is_settled_by_the_label_or_refused(tmp_path: Path) -> None:
    labels = labels_from_names(["crane", "ship", "crane"], "things.txt")
    kept = Classes((0, 1), ("crane", "ship"))
    path = saved(tmp_path, x=PIXELS, y=LABELS, classes=np.array(["crane", "ship", "crane"]))
    assert open_images(path, kept, labels, RAW).labels.tolist() == [0, 1, 1]  # type: ignore[union-attr]
    path = saved(tmp_path, x=PIXELS, y=LABELS, classes=np.array(["ship", "crane", "other"]))
    with pytest.raises(CrispError, match=r"Class 1 of .*'crane' may be output 0"):
        open_images(path, kept, labels, RAW)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": PIXELS, "labels": LABELS}, r"holds no array 'y' \(it holds labels, x\)"),
        ({"x": np.uint8(3), "y": LABELS}, "x of .* is a single number"),
        ({"images": PIXELS, "y": LABELS}, r"no array 'x' \(it holds images, y\)"),
        ({"x": PIXELS, "y": LABELS[:3]}, "4 images but 3 labels"),
        ({"x": PIXELS, "y": LABELS / 2}, "y of .* holds float64"),
        ({"x": PIXELS, "y": np.eye(4, dtype=int)}, "one whole number an image|labels"),
        ({"x": PIXELS / 255, "y": LABELS}, "x of .* holds float64 values"),
        ({"x": PIXELS[0, 0, :1].repeat(4, 0), "y": LABELS}, "holds no images"),
        ({"x": PIXELS[..., :2], "y": LABELS}, "An image of x of .* has the shape 6x6x2, which is no image"),
        ({"x": PIXELS[:, :0], "y": LABELS}, "has the shape 0x6x3"),
        ({"x": PIXELS, "y": LABELS, "classes": np.array(["a", "b"])}, "label 2, but there are 2 class names"),
        ({"x": PIXELS, "y": LABELS, "classes": np.array([1, 2, 3])}, "classes of .* holds int64"),
        ({"x": PIXELS, "y": LABELS + 5}, r"no images of class 0, 1 in"),
    ],
)
def test_wrong_archives_are_refused_in_a_sentence(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(CrispError, match=message):
        loaded(saved(tmp_path, **arrays))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.system, ("touch exploded",))


@pytest.mark.parametrize("member", ["x", "y", "classes"])
def test_pickled_members_are_refused_and_not_run(tmp_path: Path, member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays: dict[str, Any] = {"x": PIXELS, "y": LABELS, member: np.array([Bomb()], dtype=object)}
    with pytest.raises(CrispError, match=f"'{member}' of .* is pickled"):
        loaded(saved(tmp_path, **arrays))
    assert not (tmp_path / "exploded").exists()


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, True, x=PIXELS, y=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CrispError, match=r"not a readable \.npz"):
        loaded(path)
    path.write_bytes(content[:120] + bytes(20) + content[140:])
    with pytest.raises(CrispError):
        loaded(path)
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(CrispError, match=r"not a readable \.npz"):
        loaded(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"nothing")
        archive.writestr("y.npy", b"nothing")
    with pytest.raises(CrispError, match=r"Array 'x' of .* cannot be read"):
        loaded(path)


@given(st.data())
def test_any_one_changed_byte_gives_pixels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = saved(tmp_path_factory.mktemp("npz"), data.draw(st.booleans()), x=PIXELS[:, :2, :2], y=LABELS)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        ((x, _),) = open_images(path, KEPT, None, RAW).batches(100)
    except CrispError:
        return
    assert x.shape[1:] == (3, 6, 6)


def test_the_archives_of_the_shared_mosaics_load(shared_data: Path, tmp_path: Path) -> None:
    labels = read_labels(shared_data / "cifar100_labels.txt")
    names = [label.name for label in labels.entries.values()]
    mosaic = np.asarray(Image.open(shared_data / "cifar100/test/bee.webp").convert("RGB"))
    x = mosaic.reshape(10, 32, 10, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    path = saved(tmp_path, x=x, y=np.full(100, names.index("bee")), classes=np.array(names))
    preprocess = Preprocess((0.0,) * 3, (1.0,) * 3, (32, 32), scale=1.0)
    images = open_images(path, Classes((6,), ("bee",)), labels, preprocess)
    assert len(images) == 100
    ((values, _),) = images.batches(100)
    np.testing.assert_array_equal(values.transpose(0, 2, 3, 1), x)


def test_a_generator_of_pairs_is_gone_through_once() -> None:
    def pairs() -> Iterator[tuple[Any, Any]]:
        yield from zip(PIXELS, LABELS, strict=True)
        yield Image.new("L", (12, 6), 9), 1
        yield PIXELS[0].transpose(2, 0, 1), np.int32(0)

    images = open_images(pairs(), KEPT, None, RAW)
    for _ in range(2):
        ((x, y),) = images.batches(10)
        np.testing.assert_array_equal(x[:3].transpose(0, 2, 3, 1), PIXELS[[0, 1, 3]])
        assert (x[3] == 9).all()
        assert y is not None
        assert y.tolist() == [0, 1, 1, 1, 0]
    assert images.left_out == ("1 images of no wanted class",)
    assert isinstance(images.store.array, FileRows)  # type: ignore[attr-defined]
    del images
    gc.collect()


def test_the_short_side_before_the_crop_is_applied_to_pairs_once() -> None:
    preprocess = Preprocess((0.0,) * 3, (1.0,) * 3, (6, 6), scale=1.0, resize=9)
    large = np.random.default_rng(1).integers(0, 256, (18, 18, 3), np.uint8)
    x, _ = loaded([(large, 0), (large, 1)], preprocess)
    expected = preprocess.fit(Picture(Image.fromarray(large)))
    np.testing.assert_array_equal(x[0].transpose(1, 2, 0), expected)


def test_pairs_may_be_labelled_by_name() -> None:
    labels = labels_from_names(["dog", "cat", "cat"], "pets.txt")
    images = open_images([(PIXELS[0], "Dog"), (PIXELS[1], "cow")], Classes((0,), ("dog",)), labels, RAW)
    assert len(images) == 1
    with pytest.raises(CrispError, match=r"Element 0 of the data: 'cat' may be output 1"):
        open_images([(PIXELS[0], "cat")], Classes((1,), ("cat",)), labels, RAW)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([PIXELS[0]], "Element 0 of the data is no .* pair but a ndarray"),
        ([(PIXELS[0], 0), (PIXELS[0] / 255.0, 0)], "Element 1 of the data holds float64"),
        ([(PIXELS[0, 0, 0], 0)], "which is no image"),
        ([(PIXELS[0], 0.5)], "neither an output index nor a name"),
        ([], "no images of class 0, 1 in the given pairs"),
    ],
)
def test_wrong_pairs_are_refused_with_their_place(pairs: Any, message: str) -> None:
    with pytest.raises(CrispError, match=message):
        open_images(pairs, KEPT, None, RAW)


def bomb(folder: Path, name: str, shape: tuple[int, ...], dtype: str, **others: Any) -> Path:
    """An archive whose array `name` is zeros that unpack to its whole shape."""
    path = folder / f"{name}.npz"
    header = io.BytesIO()
    descr = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, descr)
    left = math.prod(shape) * np.dtype(dtype).itemsize
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for other, array in others.items():
            archive.writestr(f"{other}.npy", npy(array))
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            while left > 0:
                member.write(bytes(min(left, 1 << 24)))
                left -= 1 << 24
    return path


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_labels_and_names_that_cannot_be_those_of_the_images_are_not_unpacked(tmp_path: Path) -> None:
    for path, said in (
        (bomb(tmp_path, "y", (50_000_000,), "i8", x=PIXELS), "4 images but 50000000 labels"),
        (bomb(tmp_path, "classes", (100,), "<U250000", x=PIXELS, y=LABELS), r"classes of .* takes 95 MiB"),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(CrispError, match=said):
                loaded(path)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


def test_pixels_that_unpack_a_thousandfold_or_beyond_the_disk_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(npz, "HARMLESS_BYTES", 1 << 20)
    path = bomb(tmp_path, "x", (4, 1000, 1000, 3), "u1", y=LABELS)
    with pytest.raises(CrispError, match=r"'x' of .* unpacks from .* KiB to 11719 KiB, which is no data"):
        loaded(path)
    monkeypatch.setattr(npz, "MAX_RATIO", 10_000)
    assert len(read_npz(path).rows) == 4
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 20))
    with pytest.raises(CrispError, match=r"has 1024 KiB free\. Make room or set TMPDIR"):
        loaded(path)


def member(shape: str, descr: str = "'|u1'", body: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode("latin-1")
    text = text.ljust(64 * (len(text) // 64 + 1) - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "x",
    [
        member("(4294967296, 4294967296, 3)"),
        member("(-4, -6, 6, 3)", body=bytes(432)),
        member(f"(1{'0' * 30}, 12, 12, 3)"),
        member(f"({'9' * 5000}, 12)"),
        member("(" + "-" * 9000 + "1,)"),
        member("("),
        member("(4, 6, 6, 3)", "'|O'", bytes(432)),
        member("(4,)", "[('a','|u1'),('b','O')]", bytes(36)),
        member("(4, 6, 6, 3)", "'<q9'", bytes(432)),
        member("(4, 6, 6, 3)", "'|V0'"),
        member("(4, 6, 6, 3)", "'|u1'", bytes(431)),
        member("4", body=bytes(4)),
        member("None"),
        b"",
        b"\x93NUMPY\x07\x00" + bytes(50),
        b"\x93NUMPY\x02\x00" + b"\xff" * 50,
    ],
)
def test_odd_headers_are_one_sentence(tmp_path: Path, x: bytes, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", npy(LABELS))
    with pytest.raises(CrispError, match=r"d\.npz"):
        loaded(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (npy(np.int64(3)), "one whole number an image"),
        (npy(np.full(4, 2**64 - 1, np.uint64)), "holds the label 18446744073709551615"),
        (npy(np.full(4, 2**63 - 1, np.int64)), "no images of class"),
        (npy(np.full(4, -(2**63), np.int64)), "no images of class"),
        (npy(np.zeros((4, 1, 1), int)), "one whole number an image"),
        (npy(np.zeros(4, "M8[s]")), "one whole number an image"),
    ],
)
def test_odd_labels_are_one_sentence(tmp_path: Path, y: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", npy(PIXELS))
        archive.writestr("y.npy", y)
    with pytest.raises(CrispError, match=message):
        loaded(tmp_path / "d.npz")


@pytest.mark.parametrize(
    "names",
    [
        npy(np.array([b"a\xff", b"b", b"c"])),
        member("(3,)", "'<U1'", np.array([0xFFFFFFFF, 98, 99], "<u4").tobytes()),
        npy(np.array([["a", "b", "c"]])),
        npy(np.array([], "U1")),
    ],
)
def test_odd_names_are_one_sentence(tmp_path: Path, names: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", npy(PIXELS))
        archive.writestr("y.npy", npy(LABELS))
        archive.writestr("classes.npy", names)
    for read in (loaded, source_names):
        try:
            read(tmp_path / "d.npz")
        except CrispError as error:
            assert "d.npz" in str(error)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_packings_that_are_only_unpacked_whole_are_refused_by_the_header(tmp_path: Path, method: int) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", npy(np.zeros((4, 1000, 1000, 3), np.uint8)))
        archive.writestr("y.npy", npy(LABELS))
    for read in (loaded, source_names):
        tracemalloc.start()
        try:
            with pytest.raises(CrispError, match=r"'x' of .*d\.npz is packed in a way .* np\.savez_compressed\."):
                read(path)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_damage_inside_any_compression_is_one_sentence(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
        archive.writestr("x.npy", npy(np.random.default_rng(0).integers(0, 256, (4, 30, 30, 3), np.uint8)))
        archive.writestr("y.npy", npy(LABELS))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    for start in (300, 2000, 6000):
        damaged = bytearray(content)
        damaged[start : start + 20] = b"\xff" * 20
        (tmp_path / "d.npz").write_bytes(damaged)
        with pytest.raises(CrispError, match=r"d\.npz"):
            loaded(tmp_path / "d.npz")


def test_names_with_lone_surrogates_are_escaped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", npy(PIXELS))
        archive.writestr("y.npy", npy(LABELS))
        archive.writestr("classes.npy", member("(3,)", "'<U1'", np.array([0xD800, 98, 99], "<u4").tobytes()))
    labels = labels_from_names(source_names(tmp_path / "d.npz") or (), "d.npz")
    assert [label.name for label in labels.entries.values()] == [r"\ud800", "b", "c"]
    assert open_images(tmp_path / "d.npz", Classes((0,), (r"\ud800",)), labels, RAW).labels.tolist() == [0]  # type: ignore[union-attr]


def test_more_names_than_any_model_has_outputs_are_refused_by_the_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(PIXELS))
        archive.writestr("y.npy", npy(LABELS))
        archive.writestr("classes.npy", npy(np.zeros((1 << 19) + 1, "S1")))
    with pytest.raises(CrispError, match=r"classes of .*d\.npz holds 524,289 entries, and at most 524,288 outputs"):
        source_names(tmp_path / "d.npz")
