"""Pixels: decode an image file or take an array, bring it to 8-bit grey or RGB, cover and centre-crop a size."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from crisp_onnx.errors import CrispError

Pixels = npt.NDArray[np.uint8]


def decode(path: Path | str) -> Image.Image:
    """The image of a file, whole in memory and turned upright as its EXIF orientation says.

    Raises:
        CrispError: the file is missing, truncated, or no image that Pillow reads.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oversized and damaged metadata; what matters raises
            with Image.open(path) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise CrispError(f"The image {path} cannot be read: {reason}. Replace or delete it.") from error


def from_array(array: npt.ArrayLike, where: str) -> Image.Image:
    """The image of uint8 pixels shaped (h, w), (h, w, c) or (c, h, w), with 1, 3 or 4 channels.

    Raises:
        CrispError: another type or shape; the message names `where`.
    """
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8:
        raise CrispError(f"{where} holds {pixels.dtype} values. Give images as uint8 from 0 to 255.")
    return Image.fromarray(np.ascontiguousarray(channels_last(pixels, where)))


def channels_last(pixels: Pixels, where: str) -> Pixels:
    """View pixels (.., h, w[, c]) or (.., c, h, w) of one image as (h, w) or (h, w, c).

    Raises:
        CrispError: the shape is none of these, or a side is 0.
    """
    if 0 not in pixels.shape:
        if pixels.ndim == 2:
            return pixels
        if pixels.ndim == 3 and pixels.shape[-1] in (1, 3, 4):
            return np.squeeze(pixels, -1) if pixels.shape[-1] == 1 else pixels
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
            return np.squeeze(pixels, 0) if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    raise CrispError(
        f"{where} has the shape {'x'.join(map(str, pixels.shape)) or 'of a number'}, which is no image. "
        "Give (h, w), (h, w, c) or (c, h, w) with 1, 3 or 4 channels."
    )


def fit(image: Image.Image, size: tuple[int, int], resize: int | None, channels: int) -> Pixels:
    """Pixels (h, w, channels): the short side resized to `resize` (or so that `size` is just covered), centre crop.

    Bicubic with antialiasing, as Pillow does it. Transparency is dropped, which is what training loaders do.
    """
    converted = _converted(image, "L" if channels == 1 else "RGB")
    height, width = size
    if resize is None:
        scale = max(height / converted.height, width / converted.width)
    else:
        scale = resize / min(converted.height, converted.width)
    inner = (max(width, round(converted.width * scale)), max(height, round(converted.height * scale)))
    if inner != converted.size:
        converted = converted.resize(inner, Image.Resampling.BICUBIC)
    left, top = (inner[0] - width) // 2, (inner[1] - height) // 2
    cropped = converted.crop((left, top, left + width, top + height))
    return np.asarray(cropped, np.uint8).reshape(height, width, channels)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when it converts; the upper byte is what an 8-bit file would hold.
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
