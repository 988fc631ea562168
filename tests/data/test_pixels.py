"""Fitting and decoding: strips cost no more than their crop, sides are bounded, and every mode becomes plain pixels."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crisp_onnx.data import pixels
from crisp_onnx.data.pixels import MODES, Picture, decode, fit
from crisp_onnx.errors import CrispError


def thin_png(path: Path, width: int, height: int, *, bits: int = 8) -> Path:
    """A black grey PNG of any sides, a few kB in size."""
    pack = zlib.compressobj(9)
    line = b"\0" * (1 + (width * bits + 7) // 8)
    body = b"".join(pack.compress(line) for _ in range(height)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    return path


@given(
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    more=st.none() | st.integers(0, 30),
)
def test_resizing_what_the_crop_shows_is_resizing_all_and_cropping(sides, size, more) -> None:  # type: ignore[no-untyped-def]
    y, x = np.mgrid[: sides[1], : sides[0]]
    wave = (127 + 100 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    picture = Picture(Image.fromarray(np.stack([wave, wave // 2, 255 - wave], -1)))
    resize = None if more is None else max(size) + more
    whole = fit(picture, size, resize, 3).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "MAX_RESIZED", 0)
        crop = fit(picture, size, resize, 3).astype(int)
    assert np.abs(whole - crop).max() <= 2  # passes across and down round in another order


@given(
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.integers(1, 40),
    more=st.none() | st.integers(0, 30),
)
def test_the_long_side_is_resized_as_torchvision_does(sides, size, more) -> None:  # type: ignore[no-untyped-def]
    noise = np.random.default_rng(0).integers(0, 256, (sides[1], sides[0], 3), np.uint8)
    short, long = size + (more or 0), int((size + (more or 0)) * max(sides) / min(sides))
    wanted = Image.fromarray(noise).resize(
        (short, long) if sides[0] <= sides[1] else (long, short), Image.Resampling.BICUBIC
    )
    left, top = (wanted.width - size) // 2, (wanted.height - size) // 2
    middle = wanted.crop((left, top, left + size, top + size))
    found = fit(Picture(Image.fromarray(noise)), (size, size), None if more is None else short, 3)
    assert np.array_equal(found, np.asarray(middle))


@pytest.mark.parametrize("sides", [(65_535, 1), (1, 65_535), (131_072, 2), (3, 100_000)])
def test_a_strip_takes_no_more_memory_than_its_crop(tmp_path: Path, sides: tuple[int, int]) -> None:
    picture = decode(thin_png(tmp_path / "thin.png", *sides))
    before = pixels_in_memory()
    assert fit(picture, (224, 224), 224, 3).shape == (224, 224, 3)
    assert fit(picture, (224, 224), 10**9, 1).shape == (224, 224, 1)
    assert pixels_in_memory() - before < 64 << 20


def pixels_in_memory() -> int:
    """The most that this process has held so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize(("width", "height"), [(1_000_000, 1), (13_000, 13_000), (1, 80_000_000), (50_000, 50_000)])
def test_an_image_beyond_the_limits_is_refused_before_it_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "large.png"
    thin_png(path, width, min(height, 3), bits=1)
    content = bytearray(path.read_bytes())
    content[20:24] = struct.pack(">I", height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CrispError, match=r"large\.png cannot be read: .*(more than 64 Mi|exceeds limit)"):
            decode(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_that_is_decoded_becomes_pixels(mode: str, channels: int) -> None:
    from crisp_onnx.data.depth import Depth, deep_kind

    image = Image.new(mode, (9, 7))
    kind = deep_kind(image)
    picture = Picture(image, None if kind is None else Depth(kind, (0.0, 255.0)))
    assert fit(picture, (4, 5), None, channels).shape == (4, 5, channels)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames_is_read(tmp_path: Path, suffix: str, frames: int) -> None:
    first, *others = (Image.new("RGB", (8, 8), (80 * n, 0, 0)) for n in range(1, frames + 1))
    first.save(tmp_path / f"a.{suffix}", **({"save_all": True, "append_images": others} if others else {}))
    picture = decode(tmp_path / f"a.{suffix}")
    assert picture.animated == (frames > 1)
    assert abs(int(fit(picture, (8, 8), None, 3)[4, 4, 0]) - 80) <= 6


def test_postscript_named_as_an_image_starts_no_other_program(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(CrispError, match="cannot identify image file"):
        decode(tmp_path / "a.jpg")
