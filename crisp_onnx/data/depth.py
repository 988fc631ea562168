"""Deep images, of more than 8 bits a sample: their range by their headers, by the whole set, or by the user's word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE, SAMPLE_FORMAT, SMIN_SAMPLE, SMAX_SAMPLE = 258, 262, 281, 339, 340, 341
SIGNED, WHITE_IS_ZERO = 2, 0
ROWS_AT_ONCE = 256
LEAST_SHARE, LEAST_SHARE_OF_16_BITS = 0.25, 0.5
SLACK = 1e-3

Range = tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """A kind of deep samples; `whites` are the values that may mean white in it, the least first.

    `least_share`: the part of a white that the brightest sample of a set reaches where that white is meant.
    """

    name: str
    whites: tuple[int, ...]
    least_share: float = LEAST_SHARE


UNSIGNED_16 = Kind("16-bit", (255, 65535), LEAST_SHARE_OF_16_BITS)
"""A set that never sets the upper bit holds fewer bits, rather than pictures that are all dark."""
SIGNED_16 = Kind("signed 16-bit", (255, 32767))
WHOLE_32 = Kind("32-bit integer", (255, 65535))
FLOAT = Kind("floating-point", (1, 255))
COLOUR_16 = Kind("16-bit colour", (255,))
"""Pillow keeps the upper byte of 16-bit colour alone, so that whites are those of a byte."""


@dataclass(frozen=True)
class Depth:
    """The kind of an image's samples, the range that its header states if any, and whether 0 is white."""

    kind: Kind
    stated: Range | None = None
    inverted: bool = False


def depth_of(image: Image.Image) -> Depth | None:
    """The depth of an opened image that is not loaded yet; None for samples of 8 bits or less."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if image.mode == "F":
        return Depth(FLOAT, _stated(tags), inverted)
    if image.mode == "I" or image.mode.startswith("I;16"):
        if image.format in ("PPM", "JPEG2000"):  # scaled to 16 bits by what their header says
            return Depth(UNSIGNED_16, (0.0, 65535.0))
        if image.mode != "I" or image.format == "PNG":
            bits = _first(tags.get(BITS_PER_SAMPLE, 16))
            stated = (0.0, 2**bits - 1) if bits < 16 else _stated(tags, bits)
            return Depth(UNSIGNED_16, stated, inverted)
        signed_16 = _first(tags.get(BITS_PER_SAMPLE, 32)) == 16 and _first(tags.get(SAMPLE_FORMAT, 1)) == SIGNED
        return Depth(SIGNED_16 if signed_16 else WHOLE_32, _stated(tags), inverted)
    forms = (tile[3] for tile in getattr(image, "tile", ()))
    raw = (form[0] if isinstance(form, tuple) else form for form in forms)
    return Depth(COLOUR_16) if any(str(form).endswith((";16B", ";16L", ";16N")) for form in raw) else None


def deep_kind(image: Image.Image) -> Kind | None:
    """The kind of an image in memory, which has lost its header; None for 8 bits or less."""
    if image.mode == "F":
        return FLOAT
    if image.mode.startswith("I;16"):
        return UNSIGNED_16
    return WHOLE_32 if image.mode == "I" else None


def extremes(image: Image.Image) -> Range:
    """The lowest and highest sample of a loaded image; not a number where a sample is not finite."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        bands = image.getextrema()
        pairs = bands if isinstance(bands[0], tuple) else (bands,)
        # The last band of these is opacity, which says nothing of the range.
        colour = pairs[:-1] if image.mode in ("LA", "RGBA") else pairs
        return float(min(low for low, _ in colour)), float(max(high for _, high in colour))
    samples = np.asarray(image)
    low, high = float(samples.min()), float(samples.max())
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (math.nan, math.nan)


def believed(kind: Kind, low: float, high: float) -> Range | None:
    """The range of a whole set of images whose samples reach from `low` to `high`, or None where that is unclear.

    A white is believed when no sample lies beyond it and the brightest reaches the kind's share of it: 12 to 15 bits in
    16 do not.
    """
    for white in kind.whites:
        if low >= -SLACK * white and kind.least_share * white <= high <= (1 + SLACK) * white:
            return 0.0, float(white)
    return None


def eight_bits(image: Image.Image, low: float, high: float, *, inverted: bool = False) -> Image.Image:
    """A deep grey image as 8-bit grey: `low` becomes black, `high` white, what lies beyond is clipped."""
    samples = np.asarray(image)
    grey = np.empty(samples.shape, np.uint8)
    for start in range(0, len(samples), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        scaled = (samples[rows].astype(np.float64) - low) * (255 / (high - low))
        grey[rows] = np.rint(scaled.clip(0, 255))
    return Image.fromarray(255 - grey if inverted else grey)


def _stated(tags: Mapping[int, Any], bits: float = 0) -> Range | None:
    """The range that a TIFF states for its samples; what says no more than the number of bits states nothing."""
    most = tags.get(SMAX_SAMPLE)
    if most is not None:
        low, high = _first(tags.get(SMIN_SAMPLE, 0)), _first(most)
        sound = math.isfinite(low) and math.isfinite(high) and low < high
        return (low, high) if sound and high != 2**bits - 1 else None
    # The plain tag is meant for statistics; a power of two less one is what cameras of 10 to 14 bits write.
    high = _first(tags.get(MAX_SAMPLE, 0))
    whole = high > 255 and high.is_integer() and (int(high) + 1).bit_count() == 1
    return (0.0, high) if whole and high < 2**bits - 1 else None


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)
