"""Labels of pixels beside images: folders and archives, how they move with their images, and what is refused."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crisp_onnx.data import Classes, Preprocess, labels_from_names
from crisp_onnx.data.pixel_labels import LabelArray, read_labels_of
from crisp_onnx.data.rows import FileRows
from crisp_onnx.data.segmented import open_segmented
from crisp_onnx.data.values import AsIs
from crisp_onnx.errors import CrispError

RAW = Preprocess((0.0,) * 3, (1.0,) * 3, (6, 8), scale=1.0)
KEPT = Classes((0, 1), ("0", "1"))
COUNT = 5


def drawn(sides: tuple[int, int] = (6, 8), count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Images whose red is twenty times the label of the pixel."""
    labels = np.random.default_rng(0).choice([0, 1, 2], (count, *sides)).astype(np.uint8)
    return np.repeat((20 * labels)[..., None], 3, 3), labels


def folder(root: Path, images: np.ndarray, labels: np.ndarray, palette: bool = True) -> Path:
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        stored = Image.fromarray(label)
        if palette:
            stored.putpalette([0] * 768)
        stored.save(root / "labels" / f"{number}.png")
    return root


def archive(root: Path, **arrays: Any) -> Path:
    np.savez(root / "d.npz", **arrays)
    return root / "d.npz"


def loaded(source: Path, form: Any = RAW, classes: Classes = KEPT, size: int = 2) -> tuple[np.ndarray, np.ndarray]:
    images = open_segmented(source, classes, None, form, 3)
    x, y = zip(*images.batches(size), strict=True)
    return np.concatenate(x), np.concatenate([labels for labels in y if labels is not None])


@pytest.mark.parametrize("kind", ["palette", "grey", "npz", "channels first"])
def test_labels_come_with_their_images(tmp_path: Path, kind: str) -> None:
    images, labels = drawn()
    if kind == "npz":
        source = archive(tmp_path, x=images, y=labels)
    elif kind == "channels first":
        source = archive(tmp_path, x=images.transpose(0, 3, 1, 2), y=labels.astype(np.int64))
    else:
        source = folder(tmp_path / "d", images, labels, palette=kind == "palette")
    x, y = loaded(source)
    assert np.array_equal(y, labels) and y.dtype == np.int64
    assert np.array_equal(x[:, 0], 20 * labels)


def test_any_order_and_subset_keeps_pairs_together(tmp_path: Path) -> None:
    images = open_segmented(folder(tmp_path / "d", *drawn()), KEPT, None, RAW, 3).subset([4, 1, 3])
    ((x, y),) = images.batches(9, order=np.array([2, 0]))
    assert y is not None and np.array_equal(x[:, 0], 20 * y) and np.array_equal(y, drawn()[1][[3, 4]])
    assert images.labelled and images.labels is None


@pytest.mark.parametrize(("sides", "resize"), [((12, 16), None), ((13, 31), None), ((30, 9), 8), ((3, 4), None)])
def test_labels_are_resized_and_cropped_with_their_images_and_never_mixed(
    tmp_path: Path, sides: tuple[int, int], resize: int | None
) -> None:
    rows, columns = np.indices(sides)
    labels = ((rows * 3 // sides[0]) == 1).astype(np.uint8) | ((columns * 4 // sides[1]) == 2).astype(np.uint8)
    form = Preprocess((0.0,) * 3, (1.0,) * 3, (6, 8), scale=1.0, resize=resize)
    pairs = np.repeat((200 * labels)[None, ..., None], 3, 3), labels[None]
    x, y = loaded(folder(tmp_path / "d", *pairs), form)
    assert set(np.unique(y)) <= {0, 1}
    certain = (x[0, 0] < 2) | (x[0, 0] > 198)  # away from borders, where bicubic mixes the colours
    assert certain.mean() > 0.1 and np.array_equal((x[0, 0] > 100)[certain], (y[0] == 1)[certain])


def test_ignored_pixels_stay_ignored_and_the_shares_are_told(tmp_path: Path) -> None:
    images, labels = drawn()
    labels[:, :3] = 255
    found = open_segmented(folder(tmp_path / "d", images, labels), KEPT, None, RAW, 3)
    own = 100 * np.isin(labels, (0, 1)).mean()
    assert any(f"{own:.1f} % are of your classes and 50.0 % are labelled 255" in note for note in found.told())
    ((_, y),) = found.batches(9)
    assert np.array_equal(y, labels)


def test_the_names_of_an_archive_say_which_outputs_its_labels_are(tmp_path: Path) -> None:
    images, labels = drawn()
    labels[0, 0] = 255
    source = archive(tmp_path, x=images, y=labels, classes=np.array(["sky", "road", "moon"]))
    outputs = labels_from_names(("road", "tree", "sky"), "here")
    found = open_segmented(source, Classes((0, 2), ("road", "sky")), outputs, RAW, 3)
    ((_, y),) = found.batches(9)
    assert np.array_equal(y, np.select([labels == 0, labels == 1, labels == 255], [2, 0, 255], -1))


def test_values_that_go_in_as_they_are_have_labels_too(tmp_path: Path) -> None:
    _, labels = drawn()
    x = np.random.default_rng(1).normal(size=(COUNT, 12, 6, 8)).astype(np.float32)
    form = AsIs((12, 6, 8), np.dtype(np.float32), (6, 8))
    found, y = loaded(archive(tmp_path, x=x, y=labels), form)
    assert np.array_equal(found, x) and np.array_equal(y, labels)


@pytest.mark.parametrize("kind", ["images alone", "images/ alone", "npz"])
def test_images_without_labels_are_taken_too(tmp_path: Path, kind: str) -> None:
    images, _ = drawn()
    if kind == "npz":
        source = archive(tmp_path, x=images)
    else:
        source = tmp_path / "d"
        inside = source / "images" if kind == "images/ alone" else source
        inside.mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(inside / f"{number}.png")
    found = open_segmented(source, KEPT, None, RAW, 3)
    assert len(found) == COUNT and not found.labelled
    assert any("no labels" in note for note in found.told())


def test_what_has_no_partner_is_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", *drawn())
    (root / "labels" / "0.png").unlink()
    (root / "images" / "1.png").unlink()
    (root / "labels" / "2.png").rename(root / "labels" / "2.bmp")
    (root / "images" / "3.png").write_bytes(b"no image")
    found = open_segmented(root, KEPT, None, RAW, 3)
    assert len(found) == 1
    told = " ".join(found.told())
    for word in ("1 image without labels", "label file without an image", "no PNG", "cannot be read"):
        assert word in told


def test_what_has_no_partner_is_named_in_order(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", *drawn())
    for number in (9, 2, 7, 4, 8):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "images" / f"alone{number}.png")
    told = " ".join(open_segmented(root, KEPT, None, RAW, 3).told())
    assert "5 images without labels (images/alone2.png, images/alone4.png, images/alone7.png, ...)" in told


def test_a_pair_of_which_one_file_is_empty_is_counted_once(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", *drawn())
    (root / "labels" / "0.png").write_bytes(b"")
    (root / "images" / "1.png").write_bytes(b"")
    told = " ".join(open_segmented(root, KEPT, None, RAW, 3).told())
    assert "2 empty files" in told
    assert "without" not in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda labels: labels + 1, "label 3, but the model has the outputs 0 to 2"),
        (lambda labels: np.minimum(labels, 0), "No pixel"),
        (lambda labels: labels[:, :, 1:], "6x7 pixels, but their image is 6x8"),
        (lambda labels: np.repeat(labels[..., None], 3, 3), "colours and not indices"),
    ],
)
def test_label_files_that_do_not_go_with_the_model_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    images, labels = drawn()
    changed = change(labels)
    root = folder(tmp_path / "d", images, changed, palette=changed.ndim == 3)
    with pytest.raises(CrispError, match=said):
        open_segmented(root, KEPT, None, RAW, 3)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.zeros(COUNT, np.int64), "a label for each pixel"),
        (np.zeros((COUNT, 6, 8), np.float32), "whole numbers"),
        (np.full((COUNT, 6, 8), -1), "label -1"),
        (np.full((COUNT, 6, 8), 1 << 20), "label 1048576"),
        (np.zeros((COUNT, 8, 6), np.uint8), "a label for each pixel"),
    ],
)
def test_labels_of_archives_that_do_not_go_with_the_images_are_refused(
    tmp_path: Path, y: np.ndarray, said: str
) -> None:
    with pytest.raises(CrispError, match=said):
        open_segmented(archive(tmp_path, x=drawn()[0], y=y), KEPT, None, RAW, 3)


def test_two_images_of_one_stem_and_class_folders_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", *drawn())
    Image.new("RGB", (8, 6)).save(root / "images" / "0.bmp")
    with pytest.raises(CrispError, match="one stem"):
        open_segmented(root, KEPT, None, RAW, 3)
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    with pytest.raises(CrispError, match="takes no class folders"):
        open_segmented(tmp_path / "classes", KEPT, None, RAW, 3)


def test_grey_of_two_bits_holds_indices_and_not_shades(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    path = tmp_path / "l.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x1b")) + chunk(b"IEND", b"")
    )
    assert read_labels_of(path).tolist() == [[0, 1, 2, 3]]


def test_other_labels_are_another_set(tmp_path: Path) -> None:
    images, labels = drawn()
    first = open_segmented(folder(tmp_path / "a", images, labels), KEPT, None, RAW, 3)
    labels[2, 1, 1] = (labels[2, 1, 1] + 1) % 3
    second = open_segmented(folder(tmp_path / "b", images, labels), KEPT, None, RAW, 3)
    assert first.fingerprint() != second.fingerprint()


def test_memory_does_not_grow_with_the_number_of_labels(tmp_path: Path) -> None:
    peaks = []
    for count in (16, 160):
        path = tmp_path / str(count)
        path.mkdir()
        source = archive(path, x=np.zeros((count, 64, 64, 3), np.uint8), y=np.ones((count, 64, 64), np.uint8))
        images = open_segmented(source, Classes((1,), ("1",)), None, Preprocess((0,) * 3, (1,) * 3, (64, 64)), 3)
        assert isinstance(images.pixel_labels, LabelArray) and isinstance(images.pixel_labels.array, FileRows)
        tracemalloc.start()
        for _ in images.batches(4):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
