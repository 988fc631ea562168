"""Image folders: names, nesting, every kind of image file, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crisp_onnx.data.classes import Classes
from crisp_onnx.data.label_files import read_labels
from crisp_onnx.data.labels import labels_from_names
from crisp_onnx.data.pixels import decode
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.sources import open_images, source_names
from crisp_onnx.errors import CrispError

RAW = Preprocess((0.0,) * 3, (1.0,) * 3, (8, 8), scale=1.0)
GREY = Preprocess((0.0,), (1.0,), (8, 8), scale=1.0)
PETS = labels_from_names(["cat", "house mouse", "dog"], "pets.txt")
KEPT = Classes((2, 1), ("dog", "house mouse"))


def draw(path: Path, colour: tuple[int, int, int] = (200, 100, 50), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "cat/2.png", "House_Mouse/a.png", "dog/b.JPG", "dog/deep/er/c.webp", "dog/d.bmp"):
        draw(tmp_path / "pets" / name)
    (tmp_path / "pets/dog/notes.txt").write_text("x")
    draw(tmp_path / "pets/.hidden/e.png")
    draw(tmp_path / "pets/unknown/e.png")
    return tmp_path / "pets"


def only(root: Path, preprocess: Preprocess = RAW) -> np.ndarray:  # type: ignore[type-arg]
    """The pixels of the one image in `root`, channels last."""
    ((x, _),) = open_images(root, Classes((0,), ("0",)), None, preprocess).batches(4)
    return x[0].transpose(1, 2, 0)


def test_folders_are_resolved_and_the_others_left_out_with_a_reason(pets: Path) -> None:
    images = open_images(pets, KEPT, PETS, RAW)
    ((x, y),) = images.batches(10)
    assert x.shape == (4, 3, 8, 8)
    assert y is not None
    assert sorted(y.tolist()) == [1, 2, 2, 2]
    assert images.left_out == (
        "3 images in 2 folders of no wanted class (cat, unknown)",
        "1 hidden file (.hidden/e.png)",
        "1 file that is no image (dog/notes.txt)",
    )
    assert str(pets) in images.source


def test_folders_may_be_indices_or_synsets(tmp_path: Path, shared_data: Path) -> None:
    labels = read_labels(shared_data / "imagenet_labels.txt")
    draw(tmp_path / "134/a.png")
    draw(tmp_path / "n03126707/a.png")
    classes = Classes((134, 517), ("crane", "crane"))
    assert open_images(tmp_path, classes, labels, RAW).labels.tolist() == [134, 517]  # type: ignore[union-attr]
    draw(tmp_path / "crane/a.png")
    with pytest.raises(CrispError, match=r"crane.*may be output 134 \(n02012849, crane\) or 517"):
        open_images(tmp_path, classes, labels, RAW)


def test_a_class_without_images_is_named(pets: Path) -> None:
    for image in (pets / "cat").iterdir():
        image.unlink()
    with pytest.raises(
        CrispError, match=r"no images of class 0 \(cat\) in image folder .*folders are House_Mouse, cat"
    ):
        open_images(pets, Classes((0, 2), ("cat", "dog")), PETS, RAW)


def test_the_folder_above_train_and_val_gets_a_hint(pets: Path) -> None:
    draw(pets.parent / "all/train/dog/a.png")
    with pytest.raises(CrispError, match=r"Did you mean .*all/train\?"):
        open_images(pets.parent / "all", KEPT, PETS, RAW)


def test_an_empty_folder_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    with pytest.raises(CrispError, match=r"There are no images in image folder .*flat\."):
        open_images(tmp_path / "flat", KEPT, PETS, RAW)
    draw(tmp_path / "flat/a.png")
    with pytest.raises(CrispError, match="no such file or folder"):
        open_images(tmp_path / "none", KEPT, PETS, RAW)
    with pytest.raises(CrispError, match="is no source of images"):
        open_images(tmp_path / "flat/a.png", KEPT, PETS, RAW)


def test_a_folder_of_images_without_folders_has_no_labels(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", (number, 0, 0))
    (tmp_path / "readme.md").write_text("x")
    draw(tmp_path / ".hidden/x.png")
    images = open_images(tmp_path, KEPT, PETS, RAW)
    assert [(x[:, 0, 0, 0].tolist(), y) for x, y in images.batches(9)] == [([0, 1, 2], None)]
    assert images.labels is None
    assert images.left_out == ("1 hidden file (.hidden/x.png)", "1 file that is no image (readme.md)")
    assert images.told()[2] == (
        f"The images of image folder {tmp_path} have no labels: what the model itself answers is learnt."
    )
    assert source_names(tmp_path) is None


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_kind_of_picture_becomes_rgb_or_grey(tmp_path: Path, mode: str) -> None:
    grey = np.full((8, 8), 128, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 128 << 8, np.uint16))
    else:
        image = Image.fromarray(grey).convert("RGB")
        image = image.quantize(4) if mode == "P" else image.convert(mode)
    path = tmp_path / "0" / ("a.tif" if mode == "CMYK" else "a.png")
    path.parent.mkdir()
    image.save(path)
    tolerance = 128 if mode == "1" else 3
    np.testing.assert_allclose(only(tmp_path), 128, atol=tolerance)
    np.testing.assert_allclose(only(tmp_path, GREY), 128, atol=tolerance)
    assert only(tmp_path, GREY).shape == (8, 8, 1)


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (10, 200, 30, 255)).convert("P")
    (tmp_path / "0").mkdir()
    image.save(tmp_path / "0/a.png", transparency=0)
    np.testing.assert_allclose(only(tmp_path)[4, 4], (10, 200, 30), atol=30)


def test_an_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # bright half above as stored
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    (tmp_path / "0").mkdir()
    Image.fromarray(pixels).save(tmp_path / "0/a.jpg", exif=exif, quality=95)
    turned = only(tmp_path)
    assert turned[:3].mean() < 20
    assert turned[5:].mean() > 235


def test_a_model_with_its_channels_last_gets_them_last(tmp_path: Path) -> None:
    draw(tmp_path / "0/a.png", (1, 2, 3))
    last = Preprocess((0.0,) * 3, (1.0,) * 3, (8, 8), scale=1.0, layout="NHWC")
    ((x, _),) = open_images(tmp_path, Classes((0,), ("0",)), None, last).batches(1)
    assert x.shape == (1, 8, 8, 3)
    assert x[0, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_image_is_named(tmp_path: Path, name: str, damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (tmp_path / "0").mkdir()
    path = tmp_path / "0" / name
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"no image at all"}[damage])
    said = r"1 empty file \(0/a\.\w+\)" if damage == "empty" else r"1 image that cannot be read \(0/a\.\w+: "
    with pytest.raises(CrispError, match=r"There are no images of class 0 .* Left out: " + said):
        only(tmp_path)
    draw(tmp_path / "0/sound.png", (1, 2, 3))
    images = open_images(tmp_path, Classes((0,), ("0",)), None, RAW)
    assert [x.mean(axis=(2, 3)).tolist() for x, _ in images.batches(4)] == [[[1, 2, 3]]]
    assert len(images.left_out) == 1
    with pytest.raises(CrispError, match=r"0/a\.\w+ cannot be read: .*Replace or delete it"):
        decode(path)


@pytest.mark.parametrize("position", [60, 200, 400, 700])
def test_a_damaged_jpeg_ends_in_pixels_or_an_error_never_in_a_traceback(tmp_path: Path, position: int) -> None:
    path = draw(tmp_path / "0/a.jpg")
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 0xFF
    path.write_bytes(content)
    try:
        assert only(tmp_path).shape == (8, 8, 3)
    except CrispError as error:
        assert "1 image that cannot be read (0/a.jpg: " in str(error)


def test_real_photographs_load_as_pillow_resizes_them(shared_data: Path) -> None:
    root = shared_data / "imagenette" / "val"
    labels = read_labels(shared_data / "imagenet_labels.txt")
    classes = Classes((0, 701), ("tench", "parachute"))
    preprocess = Preprocess((1.0,) * 3, (1.0,) * 3, (224, 224), scale=2 / 255)
    images = open_images(root, classes, labels, preprocess)
    assert len(images) == 100
    assert images.left_out == (
        "400 images in 8 folders of no wanted class (n02102040, n02979186, n03000684, n03028079, n03394916, ...)",
    )
    x, y = next(images.batches(3))
    assert y is not None
    assert y.tolist() == [0, 0, 0]
    image = decode(sorted((root / "n01440764").iterdir())[0]).image.convert("RGB")
    scale = 224 / min(image.size)
    wide = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (wide.width - 224) // 2, (wide.height - 224) // 2
    expected = np.asarray(wide.crop((left, top, left + 224, top + 224)), np.float32) / 127.5 - 1
    np.testing.assert_allclose(x[0].transpose(1, 2, 0), expected, atol=1e-6)
