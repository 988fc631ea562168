"""How timm evaluates: the `pretrained_cfg` in the `config.json` beside its models."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import Any

from crisp_onnx.data.preprocess_keys import numbers, wrong

CROP_PCT = 0.875
"""Of the image, where the configuration does not say."""
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
WAYS = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming")
SQUASH, CENTER = "squash", "center"


def timm_part(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What such a file says of images; None: it is none of timm's."""
    inner = content.get("pretrained_cfg", content)
    return inner if isinstance(inner, Mapping) and "input_size" in inner else None


def of_timm(config: Mapping[str, Any], path: Path) -> dict[str, str]:
    """The keys and values of `parse_preprocess`, as text, by timm's `transforms_imagenet_eval`.

    The short side, or with `squash` both, is resized to the input's over `crop_pct`, and the middle is taken.

    Raises:
        CrispError: a value is of another type, or images would be bordered.
    """
    sides = numbers(config, "input_size", [], path)
    if len(sides) != 3 or any(side != int(side) or side < 1 for side in sides):
        raise wrong(path, "input_size", "channels, height and width")
    height, width = int(sides[1]), int(sides[2])
    share = numbers(config, "crop_pct", [CROP_PCT], path)[0]
    if not 0 < share <= 1:
        raise wrong(path, "crop_pct", "a share above 0 and up to 1")
    mode, way = config.get("crop_mode") or CENTER, config.get("interpolation") or WAYS[0]
    if mode not in (CENTER, SQUASH):
        raise wrong(path, "crop_mode", f"{CENTER} or {SQUASH}, which are followed here")
    if way not in WAYS:
        raise wrong(path, "interpolation", f"one of {', '.join(WAYS)}")
    whole = floor(height / share), floor(width / share)
    if mode == SQUASH:
        resize = {"resize": "{}x{}".format(*whole)}
    elif height == width:
        resize = {"resize": str(whole[0])}
    elif share == 1:
        resize = {}  # what just covers the input
    else:
        raise wrong(path, "crop_pct", "1, as it is to be where height and width of the input differ")
    return {
        "scale": str(1 / 255),
        **{key: "/".join(map(str, numbers(config, key, default, path))) for key, default in IMAGENET.items()},
        "size": f"{height}x{width}",
        "resample": way,
        **resize,
    }
