"""Preprocessing: presets, key=value, YAML, layouts, and the arithmetic against plain NumPy."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crisp_onnx.data.pixels import Picture
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.preprocess_text import PRESETS, parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import TensorSpec


def spec(*shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("image", shape, np.dtype(dtype))


RGB = spec(None, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unit", lambda x: x / 255),
        ("signed", lambda x: x / 127.5 - 1),
        ("raw", lambda x: x),
        ("imagenet", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_presets_do_what_they_say(name: str, expected) -> None:  # type: ignore[no-untyped-def]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    values = parse_preprocess(name, RGB).normalise(pixels)
    assert values.dtype == np.float32
    assert values.shape == (4, 3, 32, 32)
    assert values.flags.c_contiguous
    np.testing.assert_allclose(values.transpose(0, 2, 3, 1), expected(pixels.astype(np.float64)), rtol=1e-5, atol=1e-6)


def test_layout_and_channels_come_from_the_model() -> None:
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    np.testing.assert_array_equal(parse_preprocess("raw", spec(1, 4, 4, 3)).normalise(pixels), pixels)
    assert parse_preprocess("raw", spec(None, 28, 28, 1)).channels == 1
    assert parse_preprocess("raw", spec(None, 1, 28, 20)).size == (28, 20)
    assert parse_preprocess("raw,size=8", spec(None, None, None, None)).layout == "NCHW"


def test_bgr_swaps_the_channels() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    swapped = parse_preprocess("raw,order=bgr", spec(1, 3, 4, 4))
    np.testing.assert_array_equal(swapped.normalise(pixels)[0, 0], pixels[0, ..., 2])
    np.testing.assert_array_equal(swapped.pixels(swapped.normalise(pixels)), pixels)


def test_keys_add_to_a_preset_and_fractions_are_numbers() -> None:
    open_sides = spec(None, 3, None, None)
    given_keys = parse_preprocess("imagenet,size=256x192,resize=300,std=0.25", open_sides)
    assert given_keys.size == (256, 192)
    assert given_keys.resize == 300
    assert given_keys.mean == (0.485, 0.456, 0.406)
    assert given_keys.assumed == ""
    assert parse_preprocess("mean=0.5,std=0.25,scale=1/255", RGB).std == (0.25,) * 3


def test_a_yaml_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("preset: imagenet\nmean: [0.5, 0.4, 0.3]\nsize: [48, 32]\nscale: 1/255\n")
    parsed = parse_preprocess(path, spec(None, 3, None, None))
    assert parsed == parse_preprocess("imagenet,mean=0.5/0.4/0.3,size=48x32", spec(None, 3, None, None))
    path.write_text("mean: [0.5\n")
    with pytest.raises(CrispError, match="not valid YAML"):
        parse_preprocess(str(path), RGB)
    path.write_text("- 1\n")
    with pytest.raises(CrispError, match="no mapping"):
        parse_preprocess(path, RGB)
    path.write_text("maen: 1\n")
    with pytest.raises(CrispError, match=r"p\.yaml.*'mean'"):
        parse_preprocess(path, RGB)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", "Unknown preprocessing 'imagnet'.*'imagenet'"),
        ("maen=0.5", "Unknown key 'maen'.*'mean'"),
        ("mean=0.5/0.5", "has 2 values, but the model's input has 3 channels"),
        ("mean=a", "mean=a .* not a number"),
        ("mean=nan", "mean=nan .* not a number"),
        ("mean=1e999999999", "mean=1e999999999 .* not a number"),
        ("scale=1/1e-320", "not a number"),
        ("mean=1_0e400/1/1", "not a number"),
        ("std=0", "divide by zero"),
        ("mean=123.7/116.3/103.5,std=58/57/57", "Add scale=1"),
        ("imagenet,mean=123.7", "Add scale=1"),
        ("mean=0,mean=1", "stands twice"),
        ("unit,raw", "not key=value"),
        ("size=64", "takes 32x32"),
        ("size=big", "not a number of pixels"),
        ("size=1x2x3", "more than two sides"),
        ("resize=16", "smaller than the crop"),
        ("resize=0", "not a number of pixels"),
        ("order=rbg", "neither rgb nor bgr"),
    ],
)
def test_wrong_text_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(CrispError, match=message):
        parse_preprocess(text, RGB)


def test_means_of_whole_pixels_need_their_scale() -> None:
    parsed = parse_preprocess("mean=127.5,std=127.5,scale=1", RGB)
    low, high = parsed.bounds()
    np.testing.assert_allclose(low, -1)
    np.testing.assert_allclose(high, 1)


def test_open_sides_need_a_size() -> None:
    with pytest.raises(CrispError, match="leaves the image's sides open"):
        parse_preprocess("imagenet", spec(None, 3, None, None))


@pytest.mark.parametrize("shape", [(None, 4, 32, 32), (None, 10), (3, 32, 32), ()])
def test_an_input_that_takes_no_images_is_refused(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(CrispError, match="takes no images"):
        parse_preprocess("unit", spec(*shape))


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool"])
def test_an_integer_input_other_than_pixels_is_refused(dtype: str) -> None:
    with pytest.raises(CrispError, match=f"takes {dtype} values"):
        parse_preprocess("raw", spec(1, 3, 8, 8, dtype=dtype))


@pytest.mark.parametrize("shape", [(None, 3, 6, 4), (None, 6, 4, 3)])
@pytest.mark.parametrize("text", [None, "raw", "order=bgr", "size=6x4,order=bgr"])
def test_an_input_of_uint8_takes_the_pixels_themselves(shape: tuple[int, ...], text: str | None) -> None:
    preprocess = parse_preprocess(text, spec(*shape, dtype="uint8"))
    assert preprocess.assumed == ""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), np.uint8)
    values = preprocess.normalise(pixels)
    assert values.dtype == np.uint8
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(preprocess.pixels(values), pixels)
    last = values if shape[-1] == 3 else values.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(last, pixels[..., ::-1] if text and "bgr" in text else pixels)
    assert [bound.tolist() for bound in preprocess.bounds()] == [[0.0] * 3, [255.0] * 3]


@pytest.mark.parametrize("text", ["unit", "imagenet", "mean=1", "std=2", "scale=1/255", "raw,mean=5"])
def test_an_input_of_uint8_leaves_nothing_to_reckon(text: str) -> None:
    with pytest.raises(CrispError, match="takes the pixels themselves, from 0 to 255"):
        parse_preprocess(text, spec(None, 3, 6, 4, dtype="uint8"))


@pytest.mark.parametrize("text", ["size=0", "size=99999", "size=" + "9" * 5000, "resize=" + "1" * 5000, "size=²"])
def test_sides_beyond_reason_are_refused_at_once(text: str) -> None:
    with pytest.raises(CrispError, match="not a number of pixels up to 16384") as caught:
        parse_preprocess(text, spec(None, 3, 8, 8) if "resize" in text else spec(None, 3, None, None))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("channels", "preset"), [(3, "imagenet"), (1, "unit")])
def test_without_a_word_a_preset_is_assumed_and_reported(
    channels: int, preset: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assumed = parse_preprocess(None, spec(None, channels, 8, 8))
    assert preset in assumed.assumed
    assert preset in caplog.text
    assert assumed.mean == parse_preprocess(preset, spec(None, channels, 8, 8)).mean


@given(
    preset=st.sampled_from(sorted(PRESETS)),
    channels=st.sampled_from([1, 3]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    seed=st.integers(0, 99),
)
def test_pixels_undo_normalise_and_the_description_reads_back(
    preset: str, channels: int, layout: str, seed: int
) -> None:
    if preset == "imagenet" and channels == 1:
        return
    form = spec(None, channels, 6, 5) if layout == "NCHW" else spec(None, 6, 5, channels)
    parsed = parse_preprocess(preset, form)
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 6, 5, channels), np.uint8)
    values = parsed.normalise(pixels)
    np.testing.assert_array_equal(parsed.pixels(values), pixels)
    low, high = parsed.bounds()
    channels_last = values.transpose(0, 2, 3, 1) if layout == "NCHW" else values
    assert (channels_last >= low - 1e-5).all()
    assert (channels_last <= high + 1e-5).all()
    assert parse_preprocess(parsed.describe(), form) == parsed


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (10, 90), (32, 32), (7, 5)])
@pytest.mark.parametrize("resize", [None, 48])
def test_fit_covers_and_crops_the_centre(shape: tuple[int, int], resize: int | None) -> None:
    height, width = shape
    # A ramp along each side: its value in the middle tells where the crop lies.
    rows = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    columns = np.linspace(0, 255, width)[None].repeat(height, 0)
    image = Image.fromarray(np.stack([rows, columns, rows], -1).round().astype(np.uint8))
    preprocess = Preprocess((0.0,) * 3, (1.0,) * 3, (32, 24), resize=resize)
    pixels = preprocess.fit(Picture(image))
    assert pixels.shape == (32, 24, 3)
    middle = pixels[15:17, 11:13].astype(float).mean((0, 1))
    np.testing.assert_allclose(middle, 127.5, atol=24)


@pytest.mark.parametrize("scale", ["0", "0/255", "1e-60"])
def test_a_scale_that_makes_all_images_the_same_is_refused(scale: str) -> None:
    with pytest.raises(CrispError, match="would make all images the same"):
        parse_preprocess(f"raw,scale={scale}", TensorSpec("x", (None, 3, 8, 8), np.dtype("float32")))
