"""Pixels: decode an image file, bring it to 8-bit grey or RGB, cover and centre-crop a size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from crisp_onnx.data.depth import COLOUR_16, UNSIGNED_16, Depth, Range, believed, depth_of, eight_bits, extremes
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown

Pixels = npt.NDArray[np.uint8]
Resize = int | tuple[int, int] | None
"""The short side before the crop; or height and width, whatever the proportions; None: so that the crop is covered."""
Labels = npt.NDArray[np.int32]

# What Pillow decodes by itself. Not EPS, PDF or WMF: those start other programs.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "SGI", "QOI")
MAX_PIXELS = 1 << 26
MAX_SIDE = 1 << 17
MAX_RESIZED = 1 << 24
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F")
ORIENTATION = 0x0112
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """An image in memory; `depth` where its samples had more than 8 bits.

    `animated`: it is the first of several frames or pages.
    """

    image: Image.Image
    depth: Depth | None = None
    animated: bool = False

    def plain(self, reach: Range | None = None) -> Image.Image:
        """The image with 8 bits a sample; `reach` are the samples that mean black and white where it is deep.

        Without it the header decides, else what the image alone is believed to mean, else the whole of 16 bits.

        Raises:
            CrispError: nothing says what the samples mean.
        """
        if self.depth is None or self.depth.kind is COLOUR_16:
            return self.image
        found = reach or self.depth.stated or believed(self.depth.kind, *extremes(self.image))
        if found is None and self.depth.kind is UNSIGNED_16:
            found = (0.0, 65535.0)
        if found is None:
            raise CrispError(
                f"An image has {self.depth.kind.name} samples of unclear range. Say with range=LOW/HIGH in the "
                "preprocessing what is black and what white, or give 8-bit images."
            )
        return eight_bits(self.image, *found, inverted=self.depth.inverted)


def decode(path: Path | str) -> Picture:
    """The first image of a file, turned upright as its EXIF orientation says.

    Raises:
        CrispError: the file is missing, truncated, too large, or no image that Pillow reads.
    """
    with (
        border(f"The image {shown(str(path))} cannot be read", "Replace or delete it."),
        Image.open(path, formats=_formats()) as image,
    ):
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise ValueError(
                f"{image.width}x{image.height} pixels are more than {MAX_PIXELS >> 20} Mi, or a side is over {MAX_SIDE}"
            )
        if image.mode not in MODES and not image.mode.startswith("I;16"):
            raise ValueError(f"pixels of the kind {image.mode} are not known")
        depth = depth_of(image)  # before the loading, which forgets the raw form
        animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))  # MPO: a preview behind it
        image.load()
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
        return Picture(image if turn is None else image.transpose(turn), depth, animated)


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def fit(
    picture: Picture,
    size: tuple[int, int],
    resize: Resize,
    channels: int,
    reach: Range | None = None,
    resample: str = "bicubic",
) -> Pixels:
    """Pixels (h, w, channels): the image resized as `resize` says, then its middle of `size`.

    `resample`: one of `RESAMPLING`, with antialiasing, as Pillow does it. Transparency is dropped, which is what
    training loaders do. `reach` are the samples that mean black and white in a deep image.

    Raises:
        CrispError: nothing says what the samples of a deep image mean.
    """
    converted = _converted(picture.plain(reach), "L" if channels == 1 else "RGB")
    cropped = _placed(converted, size, resize, RESAMPLING[resample])
    return np.asarray(cropped, np.uint8).reshape(*size, channels)


def fit_labels(labels: Labels, size: tuple[int, int], resize: Resize) -> Labels:
    """Labels (H, W) of pixels, int32, moved as `fit` moves the image: (h, w), each that of the nearest pixel."""
    placed = _placed(Image.fromarray(labels), size, resize, Image.Resampling.NEAREST)
    return np.asarray(placed, np.int32)


def _placed(image: Image.Image, size: tuple[int, int], resize: Resize, sampling: Image.Resampling) -> Image.Image:
    """The image resized as `resize` says, and the middle of it of `size` (height, width)."""
    height, width = size
    inner = _resized(image.size, size, resize)
    left, top = (inner[0] - width) // 2, (inner[1] - height) // 2
    if inner[0] * inner[1] > MAX_RESIZED:  # a long strip, or a tiny crop: resize nothing but what the crop shows
        x, y = image.width / inner[0], image.height / inner[1]
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        return image.resize((width, height), sampling, box=box)
    resized = image if inner == image.size else image.resize(inner, sampling)
    return resized.crop((left, top, left + width, top + height))


def _resized(sides: tuple[int, int], size: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """Width and height that an image of `sides`, width and height, is resized to: never less than `size`.

    The long side loses its fraction of a pixel, as torchvision, timm and Transformers have it.
    """
    (across, down), (height, width) = sides, size
    if isinstance(resize, tuple):
        inner = (resize[1], resize[0])
    elif resize is not None:
        inner = (across * resize // min(sides), down * resize // min(sides))
    elif height * across >= width * down:
        inner = (across * height // down, height)
    else:
        inner = (width, down * width // across)
    return max(width, inner[0]), max(height, inner[1])


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "LAB":  # which Pillow converts to RGB alone
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)
