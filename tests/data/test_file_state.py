"""Files of a data set that change while it is in use: never a mixture of old and new, but a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crisp_onnx.data import Classes, Images, Preprocess
from crisp_onnx.data.folder_order import folder_images
from crisp_onnx.data.segmented import open_segmented
from crisp_onnx.data.sources import open_images
from crisp_onnx.errors import CrispError

RAW = Preprocess((0.0,) * 3, (1.0,) * 3, (6, 8), scale=1.0)
KEPT = Classes((0, 1), ("zero", "one"))
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)


def written(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def class_folder(root: Path) -> Images:
    for output, pixels in enumerate(PIXELS):
        written(root / str(output) / "a.png", pixels)
    return open_images(root, KEPT, None, RAW)


def few_of_each_folder(root: Path) -> Images:
    class_folder(root)
    return folder_images(root, ["0", "1"], 1, RAW)


def with_pixel_labels(root: Path) -> Images:
    for number, pixels in enumerate(PIXELS):
        written(root / "images" / f"{number}.png", pixels)
        written(root / "labels" / f"{number}.png", pixels[..., 0] % 2)
    return open_segmented(root, KEPT, None, RAW, 2)


OPENED = [
    (class_folder, "1/a.png", "The image"),
    (few_of_each_folder, "1/a.png", "The image"),
    (with_pixel_labels, "images/1.png", "The image"),
    (with_pixel_labels, "labels/1.png", "The label file"),
]


@pytest.mark.parametrize(("opened", "name", "what"), OPENED)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_holds_something_else_meanwhile_is_refused_by_name(
    tmp_path: Path, opened: Callable[[Path], Images], name: str, what: str, replaced: bool
) -> None:
    images = opened(tmp_path)
    assert sum(len(inputs) for inputs, _ in images.batches(1)) == 2
    path = tmp_path / name
    other = np.asarray(Image.open(path)) // 2
    if replaced:
        written(tmp_path / "new.png", other)
        (tmp_path / "new.png").replace(path)
    else:
        written(path, other)
    with pytest.raises(CrispError, match=f"^{what} .*1.*png was changed while it was in use. Start again"):
        list(images.batches(1))


@pytest.mark.parametrize(("opened", "name", "what"), OPENED)
def test_a_file_that_was_only_read_meanwhile_may_be_read_again(
    tmp_path: Path, opened: Callable[[Path], Images], name: str, what: str
) -> None:
    images = opened(tmp_path)
    (tmp_path / name).read_bytes()
    os.link(tmp_path / name, tmp_path / "link.png")
    assert sum(len(inputs) for inputs, _ in images.batches(1)) == 2
