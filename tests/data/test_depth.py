"""Deep images: their grey reaches the model by their true range, or they are left out with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from crisp_onnx.data.classes import Classes
from crisp_onnx.data.depth import FLOAT, SIGNED_16, UNSIGNED_16, WHOLE_32, believed, eight_bits
from crisp_onnx.data.images import Images
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.preprocess_text import parse_preprocess
from crisp_onnx.data.sources import open_images
from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import TensorSpec

RAW = Preprocess((0.0,), (1.0,), (8, 8), scale=1.0)
ZERO = Classes((0,), ("0",))
GREY = np.linspace(0, 250, 64).reshape(8, 8).round()


def stored(folder: Path, values: np.ndarray, name: str = "0/a.tif", **tags: object) -> Path:  # type: ignore[type-arg]
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag.removeprefix("t"))] = value
    Image.fromarray(values).save(path, **({"tiffinfo": info} if tags else {}))
    return folder


def opened(folder: Path, **options: object) -> Images:
    from dataclasses import replace

    return open_images(folder, ZERO, None, replace(RAW, **options))  # type: ignore[arg-type]


def seen(folder: Path, **options: object) -> np.ndarray:  # type: ignore[type-arg]
    ((x, _),) = opened(folder, **options).batches(9)
    return np.asarray(x[:, 0])


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("0/a.png", lambda g: g.astype(np.uint8)),
        ("0/a.png", lambda g: (g * 257).astype(np.uint16)),
        ("0/a.tif", lambda g: (g * 257).astype(np.uint16)),
        ("0/a.tif", lambda g: (g * 257).astype(">u2")),
        ("0/a.tif", lambda g: g.astype(np.uint16)),
        ("0/a.tif", lambda g: g.astype(np.int32)),
        ("0/a.tif", lambda g: (g * 257).astype(np.int32)),
        ("0/a.tif", lambda g: (g / 255).astype(np.float32)),
        ("0/a.tif", lambda g: g.astype(np.float32)),
        ("0/a.pfm", lambda g: (g / 255).astype(np.float32)),
        ("0/a.pgm", lambda g: (g * 257).astype(np.int32)),
        ("0/a.jp2", lambda g: (g * 257).astype(np.uint16)),
    ],
)
def test_every_depth_keeps_its_content(
    tmp_path: Path, name: str, form: Callable[[np.ndarray], np.ndarray]  # type: ignore[type-arg]
) -> None:  # fmt: skip
    np.testing.assert_allclose(seen(stored(tmp_path, form(GREY), name))[0], GREY, atol=1)


@pytest.mark.parametrize(
    "values",
    [
        (GREY * 16).astype(np.uint16),  # 12 bits in 16
        (GREY * 4).astype(np.uint16),  # 10
        (GREY * 64).astype(np.uint16),  # 14
        (GREY * 16).astype(np.int32),
        (GREY - 100).astype(np.int32),
        (GREY * 1e4).astype(np.int32),
        (GREY / 255 * 1.5).astype(np.float32),
        (GREY - 100).astype(np.float32),
        (GREY * 1000).astype(np.float32),
        (GREY / 255 / 8).astype(np.float32),
    ],
)
def test_an_unclear_range_is_refused_until_the_user_says_it(tmp_path: Path, values: np.ndarray) -> None:  # type: ignore[type-arg]
    stored(tmp_path, values)
    with pytest.raises(CrispError, match=r"of unclear range \(0/a\.tif\): samples reach from .*--preprocess range="):
        opened(tmp_path)
    low, high = float(values.min()), float(values.max())
    expected = (values.astype(np.float64) - low) / (high - low) * 255
    np.testing.assert_allclose(seen(tmp_path, range=(low, high))[0], expected, atol=0.51)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_left_out(tmp_path: Path, bad: float) -> None:
    values = (GREY / 255).astype(np.float32)
    stored(tmp_path, values)
    values[3, 3] = bad
    stored(tmp_path, values, "0/b.tif")
    images = opened(tmp_path)
    assert len(images) == 1
    assert images.left_out == ("1 image with samples that are not finite (0/b.tif)",)


def test_the_range_stated_in_a_tiff_is_obeyed(tmp_path: Path) -> None:
    values = (GREY * 16).astype(np.uint16)
    np.testing.assert_allclose(seen(stored(tmp_path, values, t340=0, t341=4080))[0], GREY, atol=1)
    np.testing.assert_allclose(seen(stored(tmp_path, values, t281=4095))[0], GREY * 4080 / 4095, atol=1)
    kelvin = (250 + GREY / 10).astype(np.float32)
    np.testing.assert_allclose(seen(stored(tmp_path, kelvin, t340=250.0, t341=275.5))[0], GREY, atol=1)
    for nonsense in ({"t340": 5, "t341": 5}, {"t341": 65535}, {"t281": 65535}):
        with pytest.raises(CrispError, match="of unclear range"):
            opened(stored(tmp_path, values, **nonsense))


def test_twelve_packed_bits_are_a_range_of_their_own(tmp_path: Path) -> None:
    grey = (GREY * 16).astype(np.int64).ravel()
    packed = bytearray()
    for first, second in zip(grey[::2], grey[1::2], strict=True):
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    (tmp_path / "0").mkdir()
    tags = [(256, 3, 8), (257, 3, 8), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1), (278, 3, 8)]
    tags.append((279, 4, len(packed)))
    head = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little")
    for tag, kind, value in tags:
        head += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little")
        head += value.to_bytes(4, "little")
    (tmp_path / "0/a.tif").write_bytes(head.ljust(200, b"\0") + bytes(packed))
    np.testing.assert_allclose(seen(tmp_path)[0], GREY * 4080 / 4095, atol=2)


def test_white_may_be_zero(tmp_path: Path) -> None:
    values = (65535 - GREY * 257).astype(np.uint16)
    stored(tmp_path, values, t262=0)
    with Image.open(tmp_path / "0/a.tif") as image:
        assert image.tag_v2[262] == 0
    np.testing.assert_allclose(seen(tmp_path)[0], GREY, atol=1)


def test_the_range_is_that_of_the_whole_set_and_not_of_each_image(tmp_path: Path) -> None:
    stored(tmp_path, np.full((8, 8), 0.9, np.float32))
    stored(tmp_path, np.full((8, 8), 0.1, np.float32), "0/b.tif")
    images = opened(tmp_path)
    assert seen(tmp_path).mean(axis=(1, 2)).round().tolist() == [229, 26]
    assert images.notes == (
        "2 floating-point images have samples from 0.1 to 0.9 and are read with 0 as black and 1 as white. Say "
        "--preprocess range=LOW/HIGH if that is wrong.",
    )
    stored(tmp_path, np.full((8, 8), 200.0, np.float32), "0/c.tif")  # so the others are nearly black and not grey
    assert seen(tmp_path).mean(axis=(1, 2)).round().tolist() == [1, 0, 200]


def test_deep_and_plain_images_live_together(tmp_path: Path) -> None:
    stored(tmp_path, GREY.astype(np.uint8), "0/a.png")
    stored(tmp_path, (GREY * 257).astype(np.uint16), "0/b.png")
    stored(tmp_path, (GREY * 16).astype(np.uint16), "0/c.tif", t340=0, t341=4080)
    np.testing.assert_allclose(seen(tmp_path), np.stack([GREY] * 3), atol=1)


def colour16(path: Path, factor: int) -> None:
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    import struct
    import zlib

    rows = b"".join(b"\0" + np.repeat((row * factor).astype(">u2"), 3).tobytes() for row in GREY)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def test_sixteen_bits_of_colour_are_read_unless_they_are_dark(tmp_path: Path) -> None:
    colour16(tmp_path / "0/a.png", 257)
    np.testing.assert_allclose(seen(tmp_path)[0], GREY, atol=1)
    colour16(tmp_path / "0/a.png", 16)
    with pytest.raises(CrispError, match=r"1 16-bit colour image of unclear range .*convert them to 8 bits"):
        opened(tmp_path)
    with pytest.raises(CrispError, match="16-bit colour"):
        opened(tmp_path, range=(0, 4095))


def test_pairs_of_deep_images_need_a_range() -> None:
    image = Image.fromarray((GREY * 16).astype(np.uint16))
    with pytest.raises(CrispError, match=r"16-bit samples\. Say with range=LOW/HIGH"):
        open_images([(image, 0)], ZERO, None, RAW)
    ranged = parse_preprocess("raw,range=0/4080", TensorSpec("x", (None, 1, 8, 8), np.dtype(np.float32)))
    assert parse_preprocess(ranged.describe(), TensorSpec("x", (1, 1, 8, 8), np.dtype(np.float32))) == ranged
    ((x, _),) = open_images([(image, 0)], ZERO, None, ranged).batches(1)
    np.testing.assert_allclose(x[0, 0], GREY, atol=1)


@pytest.mark.parametrize("text", ["range=5", "range=5/5", "range=9/1", "range=a/b", "range=0/1e999", "range=1/2/3"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CrispError, match="range="):
        parse_preprocess(f"raw,{text}", TensorSpec("x", (None, 1, 8, 8), np.dtype(np.float32)))


@given(
    kind=st.sampled_from([UNSIGNED_16, SIGNED_16, WHOLE_32, FLOAT]),
    low=st.floats(-1e5, 1e5),
    high=st.floats(-1e5, 1e6),
)
def test_a_range_is_believed_only_when_all_samples_lie_in_it_and_reach_its_share(kind, low, high) -> None:  # type: ignore[no-untyped-def]
    found = believed(kind, low, high)
    if found is None:
        assert not any(low >= 0 and white * kind.least_share <= high <= white for white in kind.whites)
    else:
        assert low >= -0.002 * found[1]
        assert found[1] * kind.least_share <= high <= found[1] * 1.002


@given(st.integers(0, 65000), st.integers(1, 535), st.integers(0, 99))
def test_scaling_agrees_with_exact_arithmetic(low: int, span: int, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(0, 65536, (300, 3), np.uint16)
    scaled = (samples.astype(object) - low) * 255
    expected = np.array([[min(max((value + span / 2) // span, 0), 255) for value in row] for row in scaled], float)
    ours = np.asarray(eight_bits(Image.fromarray(samples), low, low + span), float)
    assert np.abs(ours - expected).max() <= 1  # halves round either way
    negative = eight_bits(Image.fromarray(samples), low, low + span, inverted=True)
    np.testing.assert_array_equal(np.asarray(negative), 255 - ours)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_a_set_of_fewer_bits_in_sixteen_needs_a_range(tmp_path: Path, bits: int) -> None:
    stored(tmp_path, (GREY * (2**bits - 1) / 250).astype(np.uint16))
    with pytest.raises(CrispError, match=r"16-bit image of unclear range .*range=LOW/HIGH"):
        opened(tmp_path)
    np.testing.assert_allclose(seen(tmp_path, range=(0, 2**bits - 1))[0], GREY * 255 / 250, atol=1.1)


def test_images_of_fewer_bits_among_sixteen_are_said_by_folder_or_by_name(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 64).reshape(8, 8)
    form = parse_preprocess("unit", TensorSpec("x", (None, 1, 8, 8), np.dtype(np.float32)))
    stored(tmp_path, (grey * 16).astype(np.uint16), "0/dark.tif")
    stored(tmp_path, (grey * 257).astype(np.uint16), "1/b.tif")
    (note,) = open_images(tmp_path, Classes((0, 1), ("0", "1")), None, form).notes
    assert "1 of 2 16-bit images are far darker than the rest (0: no sample over 4080, others up to 65535)" in note
    stored(tmp_path, (grey * 257).astype(np.uint16), "0/a.tif")
    (note,) = open_images(tmp_path, Classes((0, 1), ("0", "1")), None, form).notes
    assert "1 of 3 16-bit images are far darker than the rest (0/dark.tif: no sample over 4080" in note
