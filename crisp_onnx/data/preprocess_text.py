"""Read preprocessing from text: a preset, `key=value` pairs, a YAML file with the same keys, or a processor's JSON."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from crisp_onnx.data.depth import Range
from crisp_onnx.data.pixels import RESAMPLING, Resize
from crisp_onnx.data.preprocess import FLOAT, Preprocess
from crisp_onnx.data.preprocess_config import read_config
from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.model.spec import Layout, TensorSpec
from crisp_onnx.reading import read_yaml

log = logging.getLogger(__name__)

MAX_SIDE, MAX_DIGITS = 1 << 14, 12
KEYS = ("preset", "mean", "std", "scale", "size", "resize", "resample", "order", "range")
PRESETS: Mapping[str, Mapping[str, str]] = {
    "imagenet": {"mean": "0.485/0.456/0.406", "std": "0.229/0.224/0.225", "scale": "1/255"},
    "unit": {"mean": "0", "std": "1", "scale": "1/255"},
    "signed": {"mean": "1", "std": "1", "scale": "2/255"},
    "raw": {"mean": "0", "std": "1", "scale": "1"},
}


def parse_preprocess(text: str | Path | None, spec: TensorSpec) -> Preprocess:
    """Preprocessing for the input `spec`: `NAME`, `FILE.yaml`, or `[NAME,]mean=R/G/B,std=R/G/B,size=HxW`.

    A `FILE.json` is the `preprocessor_config.json` of an image model of Hugging Face's, or timm's `config.json`.

    Keys: mean and std (on the scale 0 to 1, or on 0 to 255 with `scale=1`), scale, size (N or HxW; needed where the
    model leaves its sides open), resize (short side before the crop, or HxW to squeeze to), resample (bicubic; or
    nearest, bilinear, lanczos, box, hamming), order (rgb or bgr), range (LOW/HIGH: samples that mean black and white in
    images of more than 8 bits). None takes `imagenet` for three channels and `unit` for one,
    with a warning, and says so in `assumed`.

    Raises:
        CrispError: an unknown name or key (the nearest is named), a value that does not fit the model's input, or an
            input that takes no images.
    """
    layout, channels, sides = _input_form(spec)
    options, assumed = _assumed(spec, channels) if text is None else (_options(text), "")
    known = {**_preset(options.pop("preset", None)), **options}
    if spec.dtype == np.uint8:
        known = _of_whole_pixels(known, spec)
    mean, std = (_channel_values(key, known.get(key), channels) for key in ("mean", "std"))
    scale = _number("scale", known.get("scale", "1/255"))
    _require_sense(known, mean, std, scale)
    size = _size(known.get("size"), sides, spec)
    return Preprocess(
        mean=mean,
        std=std,
        size=size,
        scale=scale,
        layout=layout,
        resize=_resize(known.get("resize"), size),
        resample=_resample(known.get("resample", "bicubic")),
        order=_order(known.get("order", "rgb"), channels),
        range=_range(known.get("range")),
        dtype=spec.dtype if spec.dtype == np.uint8 else FLOAT,
        assumed=assumed,
    )


def _assumed(spec: TensorSpec, channels: int) -> tuple[dict[str, str], str]:
    """The options of an input that nothing is said of, and what is assumed, in words."""
    if spec.dtype == np.uint8:
        return {"preset": "raw"}, ""
    preset = "imagenet" if channels == 3 else "unit"
    assumed = f"no preprocessing was given, so {preset!r} is assumed for {channels} input channels"
    log.warning("%s; pass --preprocess if the model was trained otherwise.", assumed.capitalize())
    return {"preset": preset}, assumed


def _require_sense(known: Mapping[str, str], mean: Sequence[float], std: Sequence[float], scale: float) -> None:
    """Refuse numbers that are of another scale, or that leave nothing of an image."""
    if abs(scale) * 255 <= 2 < max(map(abs, (*mean, *std))):
        raise CrispError(
            f"mean={known.get('mean', 0)} and std={known.get('std', 1)} are not on the scale 0 to 1. "
            "Add scale=1 if they are meant for pixels from 0 to 255."
        )
    if 0 in std:
        raise CrispError(
            "std=0 in the preprocessing would divide by zero. Give the standard deviation of each channel."
        )
    if any(np.float32(scale / one) == 0 for one in std):
        raise CrispError(
            f"scale={known.get('scale')} in the preprocessing would make all images the same. Give what pixels are "
            "multiplied by, for example 1/255."
        )


def takes_images(spec: TensorSpec) -> bool:
    """Whether an input takes images of one or three channels."""
    try:
        _input_form(spec)
    except CrispError:
        return False
    return True


def _of_whole_pixels(known: Mapping[str, str], spec: TensorSpec) -> dict[str, str]:
    """The options for an input of uint8 pixels, which leaves nothing to reckon."""
    given = {key: [known[key]] if key == "scale" else known[key].split("/") for key in PRESETS["raw"] if key in known}
    if any(_number(key, part) != float(PRESETS["raw"][key]) for key, parts in given.items() for part in parts):
        raise CrispError(
            f"Input {spec.name!r} takes the pixels themselves, from 0 to 255. Leave mean, std, scale and presets out "
            "of the preprocessing."
        )
    return {**known, **PRESETS["raw"]}


def _input_form(spec: TensorSpec) -> tuple[Layout, int, tuple[int | None, int | None]]:
    """Layout, channels and sides of an image input. An open number of channels counts as three."""
    if spec.dtype.kind != "f" and spec.dtype != np.uint8:
        raise CrispError(f"Input {spec.name!r} takes {spec.dtype} values. Export the model with a float input.")
    if len(spec.shape) == 4:
        _, first, second, third = spec.shape
        if first in (1, 3):
            return "NCHW", first, (second, third)
        if third in (1, 3):
            return "NHWC", third, (first, second)
        if first is None:
            return "NCHW", 3, (second, third)
    shape = "x".join("?" if side is None else str(side) for side in spec.shape)
    raise CrispError(
        f"Input {spec.name!r} has the shape {shape or '()'}, which takes no images: those are "
        "(batch, channels, height, width) or (batch, height, width, channels) with 1 or 3 channels. Give --data an "
        ".npz whose x holds the rows that the model takes."
    )


def _options(text: str | Path) -> dict[str, str]:
    """The given keys and values as text."""
    if Path(text).suffix.lower() in (".yaml", ".yml"):
        return _yaml_options(Path(text))
    if Path(text).suffix.lower() == ".json":
        return read_config(Path(text))
    options: dict[str, str] = {}
    for number, part in enumerate(str(text).split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if number:
                raise CrispError(f"{part.strip()!r} in the preprocessing {str(text)!r} is not key=value. Correct it.")
            key, value = "preset", key
        _take(options, key, value, f"the preprocessing {str(text)!r}")
    return options


def _yaml_options(path: Path) -> dict[str, str]:
    content = read_yaml(path, "preprocessing file", "mean: [0.5, 0.5, 0.5]")
    options: dict[str, str] = {}
    for key, value in content.items():
        parts = value if isinstance(value, list) else [value]
        _take(options, str(key), ("x" if key in ("size", "resize") else "/").join(map(str, parts)), str(path))
    return options


def _take(options: dict[str, str], key: str, value: str, where: str) -> None:
    if key not in KEYS:
        raise CrispError(f"Unknown key {key!r} in {where}; known are {', '.join(KEYS)}.{nearest(key, KEYS)}")
    if key in options:
        raise CrispError(f"The key {key!r} stands twice in {where}. Give it once.")
    options[key] = value


def _preset(name: str | None) -> Mapping[str, str]:
    if name is None:
        return {}
    if name not in PRESETS:
        hint = nearest(name, PRESETS)
        raise CrispError(f"Unknown preprocessing {name!r}; known are {', '.join(PRESETS)}, or key=value.{hint}")
    return PRESETS[name]


def _number(key: str, text: str) -> float:
    """A finite number; a fraction such as 1/255 is fine."""
    above, line, below = text.partition("/")
    try:
        number = float(above) / float(below) if line else float(above)
    except (ValueError, ZeroDivisionError) as error:
        raise CrispError(f"{key}={text} in the preprocessing is not a number. Correct it.") from error
    if not math.isfinite(number):
        raise CrispError(f"{key}={text} in the preprocessing is not a number that can be reckoned with. Correct it.")
    return number


def _channel_values(key: str, text: str | None, channels: int) -> tuple[float, ...]:
    if text is None:
        return (0.0 if key == "mean" else 1.0,) * channels
    numbers = tuple(_number(key, part) for part in text.split("/"))
    if len(numbers) not in (1, channels):
        raise CrispError(
            f"{key}={text} has {len(numbers)} values, but the model's input has {channels} channels. "
            "Give one value, or one a channel."
        )
    return numbers * channels if len(numbers) == 1 else numbers


def _whole(key: str, text: str) -> int:
    if not text.strip().isdecimal() or len(text) > MAX_DIGITS or not 0 < int(text) <= MAX_SIDE:
        said = text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}..."
        raise CrispError(
            f"{key}={said} in the preprocessing is not a number of pixels up to {MAX_SIDE}. Write for example "
            f"{key}=224."
        )
    return int(text)


def _size(text: str | None, sides: tuple[int | None, int | None], spec: TensorSpec) -> tuple[int, int]:
    if text is None:
        if sides[0] is None or sides[1] is None:
            raise CrispError(
                f"Input {spec.name!r} leaves the image's sides open. Say which size to use, for example "
                "--preprocess imagenet,size=224, or size=HxW."
            )
        return sides[0], sides[1]
    parts = text.lower().split("x")
    if len(parts) > 2:
        raise CrispError(f"size={text} in the preprocessing has more than two sides. Write size=N or size=HxW.")
    size = (_whole("size", parts[0]), _whole("size", parts[-1]))
    if any(side not in (None, given) for side, given in zip(sides, size, strict=True)):
        fixed = "x".join("?" if side is None else str(side) for side in sides)
        raise CrispError(
            f"size={text} does not fit input {spec.name!r}, which takes {fixed} pixels. Leave size out; "
            "resize=N sets the short side before the crop."
        )
    return size


def _resize(text: str | None, size: tuple[int, int]) -> Resize:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2:
        raise CrispError(f"resize={text} in the preprocessing has more than two sides. Write resize=N or resize=HxW.")
    sides = (_whole("resize", parts[0]), _whole("resize", parts[-1]))
    if any(side < crop for side, crop in zip(sides, size if len(parts) == 2 else (max(size),) * 2, strict=True)):
        raise CrispError(f"resize={text} is smaller than the crop of {size[0]}x{size[1]} pixels. Raise it.")
    return sides if len(parts) == 2 else sides[0]


def _resample(text: str) -> str:
    if text.lower() not in RESAMPLING:
        known = ", ".join(RESAMPLING)
        raise CrispError(f"Unknown resample={text} in the preprocessing; known are {known}.{nearest(text, RESAMPLING)}")
    return text.lower()


def _order(text: str, channels: int) -> Literal["rgb", "bgr"]:
    if text.lower() not in ("rgb", "bgr"):
        raise CrispError(f"order={text} in the preprocessing is neither rgb nor bgr.")
    return "bgr" if text.lower() == "bgr" and channels == 3 else "rgb"


def _range(text: str | None) -> Range | None:
    if text is None:
        return None
    numbers = [_number("range", part) for part in text.split("/")]
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise CrispError(f"range={text} in the preprocessing is not LOW/HIGH. Write for example range=0/4095.")
    return numbers[0], numbers[1]
