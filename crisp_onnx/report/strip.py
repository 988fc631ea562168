"""The picture strip of a segmentation: for some images, what was shown, what is true, and what both models answer."""

from __future__ import annotations

import base64
import colorsys
import html
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from crisp_onnx.reading import shown
from crisp_onnx.report.schema import ClassEntry
from crisp_onnx.task.overlap import Shown

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

LONGEST_SIDE = 192
NOT_JUDGED: Colour = (150, 150, 150)
NEAREST = Image.Resampling.NEAREST
HEADS = ("image", "truth", "dense", "compressed")
SHARE = "Beside an answer: the share of this image's pixels of your classes that it has right."
GOLDEN = 0.381966
"""Of a turn: hues that far apart stay apart, however many there are."""


def strip(pictures: Sequence[Shown], classes: Sequence[ClassEntry]) -> str:
    """HTML of a row of four pictures for each image, and of what the colours mean; empty where there are none."""
    if not pictures:
        return ""
    colours = palette([entry.index for entry in classes])
    key = [(colours[entry.index], entry.name) for entry in classes]
    used = [*key, (NOT_JUDGED, "of no class of yours: not judged")]
    legend = "".join(f'<span style="--colour: rgb{colour}">{_text(name)}</span>' for colour, name in used)
    rows = "".join(_row(picture, colours) for picture in pictures)
    head = f'<h2>Pictures</h2>\n<p class="quiet">{SHARE}</p>'
    return f'{head}\n<div class="key">{legend}</div>\n<div class="strip">{rows}</div>'


def palette(indices: Sequence[int]) -> dict[int, Colour]:
    """A colour for each output, by its place in the list; the first one dark, as it often is the background."""
    found: dict[int, Colour] = {}
    for place, index in enumerate(indices):
        depth, value = (0.75, 0.95 if place % 2 else 0.75) if place else (0.0, 0.25)
        red, green, blue = colorsys.hsv_to_rgb(place * GOLDEN % 1, depth, value)
        found[index] = (round(red * 255), round(green * 255), round(blue * 255))
    return found


def painted(labels: npt.NDArray[np.int64], colours: Mapping[int, Colour], judged: npt.NDArray[np.bool_]) -> Pixels:
    """Labels (h, w) in their colours (h, w, 3); what is not `judged` is grey."""
    picture = np.empty((*labels.shape, 3), np.uint8)
    picture[:] = NOT_JUDGED
    for index, colour in colours.items():
        picture[judged & (labels == index)] = colour
    return picture


def _row(picture: Shown, colours: Mapping[int, Colour]) -> str:
    judged = np.isin(picture.truth, list(colours))
    rights = [(answer == picture.truth)[judged].mean() for answer in picture.answers] if judged.any() else []
    maps = [painted(labels, colours, judged) for labels in (picture.truth, *picture.answers)]
    said = ["", "", *([f" {100 * right:.1f} %" for right in rights] or ["", ""])]
    figures = "".join(
        f'<figure><img src="{_data(pixels)}" alt="{head} of image {picture.number}">'
        f"<figcaption>{head}{more}</figcaption></figure>"
        for head, more, pixels in zip(HEADS, said, (picture.image, *maps), strict=True)
    )
    return f'<div class="pictures">{figures}</div>'


def _data(pixels: Pixels) -> str:
    """A PNG within the page itself."""
    image = Image.fromarray(pixels)
    shrink = LONGEST_SIDE / max(image.size)
    if shrink < 1:
        image = image.resize((max(1, round(image.width * shrink)), max(1, round(image.height * shrink))), NEAREST)
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _text(text: str) -> str:
    return html.escape(shown(text))
