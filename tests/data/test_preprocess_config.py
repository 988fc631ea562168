"""`preprocessor_config.json` of Transformers' image processors, as published models have it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crisp_onnx.data.pixels import Picture
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.preprocess_text import parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import TensorSpec

SPEC = TensorSpec("pixel_values", (None, 3, None, None), np.dtype(np.float32))
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def parsed(folder: Path, content: Any, side: int | None = None) -> Preprocess:
    path = folder / "preprocessor_config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return parse_preprocess(path, TensorSpec("pixel_values", (None, 3, side, side), np.dtype(np.float32)))


TIMM = {"input_size": [3, 224, 224], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.1], "interpolation": "bilinear"}


@pytest.mark.parametrize(
    ("config", "size", "resize", "resample"),
    [
        ({}, (224, 224), 256, "bilinear"),  # crop_pct is 0.875 where nothing is said
        ({"crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"}, (224, 224), 248, "bicubic"),
        ({"crop_pct": 1.0, "input_size": [3, 384, 384]}, (384, 384), 384, "bilinear"),
        ({"crop_pct": 0.95, "crop_mode": "squash", "input_size": [3, 240, 160]}, (240, 160), (252, 168), "bilinear"),
        ({"crop_pct": 1, "input_size": [3, 240, 160]}, (240, 160), None, "bilinear"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_timms_configuration_is_read_as_its_evaluation_does(
    tmp_path: Path, whole: bool, config: Any, size: Any, resize: Any, resample: str
) -> None:
    told = {**TIMM, **config}
    found = parsed(
        tmp_path, {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": told} if whole else told
    )
    assert (found.size, found.resize, found.resample) == (size, resize, resample)
    assert (found.mean, found.std, found.scale) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.1), 1 / 255)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"input_size": [224, 224]}, "input_size .* is not channels, height and width"),
        ({"crop_pct": 1.5}, "crop_pct .* is not a share"),
        ({"crop_mode": "border"}, "crop_mode .* is not center or squash"),
        ({"interpolation": "random"}, "interpolation .* is not one of bicubic"),
        ({"mean": "no"}, "mean .* is not a number, or a list"),
        ({"crop_pct": 0.9, "input_size": [3, 240, 160]}, "crop_pct .* is not 1"),
    ],
)
def test_what_timm_says_otherwise_than_it_is_followed_is_refused_by_its_key(
    tmp_path: Path, config: Any, words: str
) -> None:
    with pytest.raises(CrispError, match=words):
        parsed(tmp_path, {"pretrained_cfg": {**TIMM, **config}})


@pytest.mark.parametrize(
    ("content", "size", "resize"),
    [
        ({"crop_pct": 0.875, "size": {"shortest_edge": 224}, "do_resize": True}, (224, 224), 256),  # ConvNeXt, ResNet
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}, (384, 384), (384, 384)),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}, (224, 224), 256),
        ({"crop_size": {"height": 224, "width": 192}, "size": {"shortest_edge": 256}}, (224, 192), 256),  # MobileNetV2
        ({"do_center_crop": True, "crop_size": 224, "size": 256}, (224, 224), 256),  # before sizes had keys
        ({"size": {"height": 224, "width": 160}}, (224, 160), (224, 160)),  # ViT
        (
            {"do_center_crop": True, "crop_size": 224, "size": 256, "feature_extractor_type": "DeiTFeatureExtractor"},
            (224, 224),
            (256, 256),
        ),
        ({"do_center_crop": True, "crop_size": 224, "size": {"height": 256, "width": 256}}, (224, 224), (256, 256)),
        ({"crop_pct": 0.9, "crop_size": 224, "size": {"shortest_edge": 224}}, (224, 224), 248),  # PoolFormer
        (
            {"size": {"shortest_edge": 224}, "crop_size": 224, "feature_extractor_type": "LevitFeatureExtractor"},
            (224, 224),
            256,
        ),
        ({"size": 224, "crop_size": 256, "image_processor_type": "PerceiverImageProcessorFast"}, (224, 224), 256),
        ({"do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": [240, 224]}, (240, 224), 256),
    ],
)
def test_sizes_of_known_processors_are_read(tmp_path: Path, content: Any, size: Any, resize: Any) -> None:
    found = parsed(tmp_path, {**IMAGENET, **content})
    assert (found.size, found.resize) == (size, resize)
    assert (found.mean, found.std, found.scale) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)


@pytest.mark.parametrize(
    ("content", "white"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 1.0),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5, "do_normalize": False}, 2.0),
        ({"do_normalize": False, "do_rescale": True}, 1.0),
        ({"do_normalize": False, "do_rescale": False, "image_mean": [0.5] * 3}, 255.0),
    ],
)
def test_white_becomes_what_the_processor_makes_of_it(tmp_path: Path, content: Any, white: float) -> None:
    found = parsed(tmp_path, content, side=4)
    values = found.normalise(np.full((1, 4, 4, 3), 255, np.uint8))
    np.testing.assert_allclose(values, white, rtol=1e-6)


def test_channels_in_another_order_are_turned(tmp_path: Path) -> None:
    found = parsed(tmp_path, {"do_normalize": False, "do_flip_channel_order": True}, side=1)
    values = found.normalise(np.array([[[[0, 51, 255]]]], np.uint8))
    np.testing.assert_allclose(values[0, :, 0, 0], [1, 0.2, 0], rtol=1e-6)


def test_squeezed_images_are_squeezed_the_way_that_the_processor_says(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    image = Image.fromarray(noise)
    found = parsed(tmp_path, {**IMAGENET, "size": {"height": 16, "width": 8}, "resample": 2})
    np.testing.assert_array_equal(found.fit(Picture(image)), np.asarray(image.resize((8, 16), 2)))
    found = parsed(tmp_path, {"size": {"height": 16, "width": 12}, "crop_size": {"height": 8, "width": 8}})
    np.testing.assert_array_equal(found.fit(Picture(image)), np.asarray(image.resize((12, 16), 3))[4:12, 2:10])
    assert parse_preprocess(found.describe(), SPEC) == found


@pytest.mark.parametrize(
    ("content", "black", "white"),
    [
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, -1.0, 1.0),
        (
            {"rescale_factor": 1 / 127.5, "rescale_offset": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            -3.0,
            1.0,
        ),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "include_top": True}, -2.0, 2.0),
    ],
)
def test_black_and_white_become_what_efficientnets_processor_makes_of_them(
    tmp_path: Path, content: Any, black: float, white: float
) -> None:
    values = parsed(tmp_path, content, side=2).normalise(np.array([[[[0] * 3, [255] * 3]] * 2], np.uint8))
    np.testing.assert_allclose(values[0, :, :, 0], black, rtol=1e-6)
    np.testing.assert_allclose(values[0, :, :, 1], white, rtol=1e-6)


def test_what_is_not_followed_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "crisp_onnx"):
        parsed(tmp_path, {**IMAGENET, "size": 4, "do_pad": True, "keep_aspect_ratio": False, "size_divisor": 32})
        assert "more than is followed here: do_pad, size_divisor" in caplog.text
        parsed(tmp_path, {**IMAGENET, "size": {"shortest_edge": 8}})
        assert "middle of 8x8 pixels" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no preprocessor_config.json"),
        ("{", "not JSON"),
        ({"feature_size": 1}, "none of image_mean"),
        ({**IMAGENET, "size": {"shortest_edge": "a"}}, "size in the preprocessing file"),
        ({**IMAGENET, "size": {"height": True, "width": 2}}, "number of pixels"),
        ({"image_mean": ["a"], "image_std": [1]}, "image_mean in the preprocessing file"),
        ({**IMAGENET, "do_rescale": "yes"}, "true or false"),
        ({**IMAGENET, "size": 99999999}, "size=99999999"),
        ({**IMAGENET, "size": 8, "resample": 9}, "number from 0 to 5"),
        ({**IMAGENET, "size": 8, "crop_pct": 0}, "crop_pct"),
        ({"image_mean": [0.5], "image_std": [0], "size": 8}, "std=0"),
        ("[" * 60_000, "not JSON"),
        ('{"image_mean": 1e999, "size": 4}', "mean=inf"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(CrispError) as raised:
        parsed(tmp_path, content)
    assert said in str(raised.value)
