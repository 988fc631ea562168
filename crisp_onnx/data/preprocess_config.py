"""Read the JSON that says beside a model how its images are prepared.

It is the `preprocessor_config.json` of the image processors of Hugging Face's Transformers, or timm's `config.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crisp_onnx.data.pixels import Resize
from crisp_onnx.data.preprocess_keys import numbers, switch, wrong
from crisp_onnx.data.preprocess_timm import of_timm, timm_part
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, read_text, shown

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 10
HALF = [0.5, 0.5, 0.5]
WHOLE_FROM = 384
"""ConvNeXt's processor squeezes images from this side on, and crops smaller ones (`crop_pct`)."""
CROP_PCT = {"ConvNext": 224 / 256, "PoolFormer": 0.9}
"""What processors crop of the image where their configuration does not say."""
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers for ways to resize, which the processors write."""
FOLLOWED = frozenset(
    {
        "do_resize",
        "size",
        "do_center_crop",
        "crop_size",
        "crop_pct",
        "resample",
        "do_rescale",
        "rescale_factor",
        "rescale_offset",
        "do_normalize",
        "image_mean",
        "image_std",
        "include_top",
        "do_flip_channel_order",
        "do_convert_rgb",
        "default_to_square",
    }
)
OF_NO_STEP = frozenset(
    {
        "image_processor_type",
        "feature_extractor_type",
        "processor_class",
        "auto_map",
        "model_input_names",
        "num_channels",
        "data_format",
        "input_data_format",
        "return_tensors",
        "transformers_version",
    }
)
SQUARE = frozenset({"ViT", "DeiT", "Beit", "DPT", "Segformer", "EfficientNet", "Perceiver", "ImageGPT"})
"""Processors to which a size of one number means both sides, and not the short one."""

Sides = tuple[int, int]


def read_config(path: Path) -> dict[str, str]:
    """The keys and values of `parse_preprocess`, as text.

    The processor's steps and their order: resize, centre crop, rescale by `rescale_factor` (and subtract 1 with
    `rescale_offset`), subtract `image_mean`, divide by `image_std`, once more with `include_top`. Keys that ask for
    something else are named in a warning.

    Raises:
        CrispError: the file cannot be read, or is no such configuration.
    """
    content = _content(path)
    of_timms = timm_part(content)
    if of_timms is not None:
        return of_timm(of_timms, path)
    ignored = sorted(key for key, value in content.items() if value and key not in FOLLOWED | OF_NO_STEP)
    ignored = [key for key in ignored if not key.startswith("_")]
    if ignored:
        named = ", ".join(map(shown, ignored))
        log.warning("%s asks for more than is followed here: %s.", shown(path.name), named)
    options = {"scale": "1"} | _affine(content, path)
    if switch(content, "do_rescale", True, path):
        options["scale"] = str(numbers(content, "rescale_factor", [1 / 255], path)[0])
    if switch(content, "do_flip_channel_order", False, path):
        options["order"] = "bgr"
    way = content.get("resample")
    if way is not None:
        if isinstance(way, bool) or not isinstance(way, int) or not 0 <= way < len(RESAMPLE):
            raise wrong(path, "resample", f"a number from 0 to {len(RESAMPLE) - 1}")
        options["resample"] = RESAMPLE[way]
    return options | _sizes(content, path)


def _affine(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    """What is subtracted and divided by after the rescaling."""
    means, stds = [0.0], [1.0]
    if switch(content, "do_normalize", "image_mean" in content, path):
        means = numbers(content, "image_mean", HALF, path)
        stds = numbers(content, "image_std", HALF, path)
    if switch(content, "do_rescale", True, path) and switch(content, "rescale_offset", False, path):
        means = [1 + mean for mean in means]
    if switch(content, "include_top", False, path):
        again = numbers(content, "image_std", HALF, path)
        wide = max(len(stds), len(again))
        stds = [one * other for one, other in zip(_wide(stds, wide), _wide(again, wide), strict=True)]
    return {"mean": "/".join(map(str, means)), "std": "/".join(map(str, stds))}


def _wide(numbers: list[float], channels: int) -> list[float]:
    return numbers * channels if len(numbers) == 1 else numbers


def _sizes(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    """`size` and `resize`. Where the processor does not crop, it squeezes images out of their proportions."""
    crops = switch(content, "do_center_crop", "crop_size" in content, path)
    resizes = switch(content, "do_resize", "size" in content, path)
    short, sides = _size(content.get("size"), "size", path) if resizes else (None, None)
    kind = _kind(content)
    share = CROP_PCT.get(kind)
    if content.get("crop_pct") is not None:
        share = numbers(content, "crop_pct", [1.0], path)[0]
    if share is not None and not 0 < share <= 1:
        raise wrong(path, "crop_pct", "a share above 0 and up to 1")
    if kind in SQUARE and isinstance(content.get("size"), int):
        short, sides = None, _square(short)
    if kind == "Levit" and short is not None:
        short = int(256 / 224 * short)
    if crops:
        crop = _size(content.get("crop_size", content.get("size")), "crop_size", path)
        size, resize = _cropped(crop[1] or _square(crop[0]), short, sides, share)
        if kind == "Perceiver" and size is not None:  # which crops before it resizes: the same part of the image
            resize = min(size)
            size = sides or _square(short)
    elif short is None:
        size, resize = sides, sides
    else:
        size, resize = _square(short), _uncropped(short, share, path)
    told = {} if size is None else {"size": "{}x{}".format(*size)}
    if resize is None:
        return told
    return {**told, "resize": str(resize) if isinstance(resize, int) else "{}x{}".format(*resize)}


def _cropped(
    crop: Sides | None, short: int | None, sides: Sides | None, share: float | None
) -> tuple[Sides | None, Resize]:
    """`size` and `resize` of a processor that crops after it resized to `short` or `sides`, over `share`."""
    if sides is None:
        return crop, short if short is None or share is None else int(short / share)
    if share is None:
        return crop, sides
    return crop, int(sides[0] / share) if sides[0] == sides[1] else (int(sides[0] / share), int(sides[1] / share))


def _uncropped(short: int, share: float | None, path: Path) -> Resize:
    """`resize` of a processor that knows of a short side and of no crop but `share`."""
    if share is not None:
        return int(short / share) if short < WHOLE_FROM else (short, short)
    log.warning(
        "%s leaves images in their proportions; here their middle of %dx%d pixels is taken.",
        shown(path.name), short, short,
    )  # fmt: skip
    return short


def _kind(content: Mapping[str, Any]) -> str:
    """The processor's name without what all of them are called."""
    named = content.get("image_processor_type") or content.get("feature_extractor_type") or ""
    for end in ("Fast", "ImageProcessor", "FeatureExtractor"):
        named = str(named).removesuffix(end)
    return named


def _square(side: int | None) -> Sides | None:
    return None if side is None else (side, side)


def _size(value: Any, key: str, path: Path) -> tuple[int | None, Sides | None]:
    """The short side, or height and width, of one of the forms that processors write."""
    if isinstance(value, Mapping) and {"height", "width"} <= value.keys():
        return None, (_side(value["height"], key, path), _side(value["width"], key, path))
    if isinstance(value, Mapping) and "shortest_edge" in value:
        return _side(value["shortest_edge"], key, path), None
    if isinstance(value, list) and len(value) == 2:
        return None, (_side(value[0], key, path), _side(value[1], key, path))
    return _side(value, key, path), None


def _side(value: Any, key: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(path, key, "a number of pixels, or height and width, or shortest_edge")
    return value


def _content(path: Path) -> Mapping[str, Any]:
    text = read_text(path, "preprocessing file", limit=MAX_BYTES)
    with border(f"The preprocessing file {shown(str(path))} is not JSON", "Correct it."):
        content = json.loads(text)
    known = {"image_mean", "do_normalize", "size", "crop_size", "pretrained_cfg", "input_size"}
    if not isinstance(content, dict) or not content.keys() & known:
        raise CrispError(
            f"The preprocessing file {shown(str(path))} is no preprocessor_config.json of an image model, nor timm's "
            "config.json: it holds none of image_mean, do_normalize, size, crop_size, pretrained_cfg. Write key=value, "
            "or a YAML file."
        )
    return content
