"""Read the `preprocessor_config.json` that image processors of Hugging Face's Transformers leave beside a model."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, read_text, shown

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 10
HALF = [0.5, 0.5, 0.5]
WHOLE_FROM = 384
"""ConvNeXt's processor squeezes images from this side on, and crops smaller ones (`crop_pct`)."""

Sides = tuple[int, int]


def read_config(path: Path) -> dict[str, str]:
    """The keys and values of `parse_preprocess`, as text.

    The processor's steps and their order: resize, centre crop, rescale by `rescale_factor`, subtract `image_mean`,
    divide by `image_std`. A processor that squeezes images out of their proportions is followed in its size alone,
    with a warning, for images are covered and cropped here.

    Raises:
        CrispError: the file cannot be read, or is no such configuration.
    """
    content = _content(path)
    options = {"mean": "0", "std": "1", "scale": "1"}
    if _switch(content, "do_rescale", True, path):
        options["scale"] = str(_numbers(content, "rescale_factor", [1 / 255], path)[0])
    if _switch(content, "do_normalize", "image_mean" in content, path):
        options["mean"] = "/".join(map(str, _numbers(content, "image_mean", HALF, path)))
        options["std"] = "/".join(map(str, _numbers(content, "image_std", HALF, path)))
    if _switch(content, "do_flip_channel_order", False, path):
        options["order"] = "bgr"
    return options | _sizes(content, path)


def _sizes(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    crops = _switch(content, "do_center_crop", "crop_size" in content, path)
    resizes = _switch(content, "do_resize", "size" in content, path)
    short, sides = _size(content.get("size"), "size", path) if resizes else (None, None)
    share = _numbers(content, "crop_pct", [1.0], path)[0]
    if crops:
        crop = _size(content.get("crop_size", content.get("size")), "crop_size", path)
        sides, resize = crop[1] or _square(crop[0]), short
    elif short is not None and "crop_pct" in content and short < WHOLE_FROM and 0 < share <= 1:
        sides, resize = _square(short), int(short / share)
    else:
        sides, resize = sides or _square(short), None
        if sides is not None:
            log.warning(
                "%s squeezes each image to %dx%d pixels; here images keep their proportions and are cropped.",
                shown(path.name),
                *sides,
            )
    said = {} if sides is None else {"size": f"{sides[0]}x{sides[1]}"}
    return said if resize is None else {**said, "resize": str(resize)}


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
        raise _wrong(path, key, "a number of pixels, or height and width, or shortest_edge")
    return value


def _numbers(content: Mapping[str, Any], key: str, otherwise: list[float], path: Path) -> list[float]:
    value = content.get(key, otherwise)
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in values):
        raise _wrong(path, key, "a number, or a list of them")
    return [float(one) for one in values]


def _switch(content: Mapping[str, Any], key: str, otherwise: bool, path: Path) -> bool:
    value = content.get(key, otherwise)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise _wrong(path, key, "true or false")
    return value


def _content(path: Path) -> Mapping[str, Any]:
    text = read_text(path, "preprocessing file", limit=MAX_BYTES)
    with border(f"The preprocessing file {shown(str(path))} is not JSON", "Correct it."):
        content = json.loads(text)
    if not isinstance(content, dict) or not content.keys() & {"image_mean", "do_normalize", "size", "crop_size"}:
        raise CrispError(
            f"The preprocessing file {shown(str(path))} is no preprocessor_config.json of an image model: it holds "
            "none of image_mean, do_normalize, size, crop_size. Write key=value, or a YAML file."
        )
    return content


def _wrong(path: Path, key: str, meant: str) -> CrispError:
    return CrispError(f"{key} in the preprocessing file {shown(str(path))} is not {meant}. Correct it.")
