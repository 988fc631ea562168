"""Images from any Python iterable of (image, label) pairs, spooled to disk so that one pass over it is enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from crisp_onnx.data.arrays import ArrayStore, from_array, spooled
from crisp_onnx.data.classes import Classes, wanted
from crisp_onnx.data.depth import Depth, deep_kind
from crisp_onnx.data.found import Found
from crisp_onnx.data.labelled import require_outputs
from crisp_onnx.data.labels import Labels
from crisp_onnx.data.pixels import Picture, Pixels
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.errors import CrispError

Pair = tuple[Image.Image | npt.ArrayLike, int | str]
SOURCE = "the given pairs"


def read_pairs(
    pairs: Iterable[Pair],
    classes: Classes,
    labels: Labels | None,
    preprocess: Preprocess,
    outputs: int | None = None,
) -> Found:
    """The images of the user's classes among `pairs`; the others are counted as left out.

    The iterable is gone through once. Each image of a wanted class is resized and cropped at once and written to a
    temporary file, so memory does not grow with their number, and generators do.

    Args:
        pairs: image as uint8 (h, w), (h, w, c) or (c, h, w) or a Pillow image; label as output index or name.

    Raises:
        CrispError: an element is no such pair, a name may mean several outputs, or a number is none of the `outputs`.
    """
    kept: list[int] = []
    foreign = 0

    def fitted() -> Iterator[Pixels]:
        nonlocal foreign
        for number, pair in enumerate(pairs):
            where = f"Element {number} of the data"
            image, label = _checked(pair, where)
            output = _output(label, classes, labels, where, outputs)
            if output is None:
                foreign += 1
                continue
            kept.append(output)
            yield preprocess.fit(_picture(image, preprocess, where))

    array = spooled(fitted(), np.dtype(np.uint8), (*preprocess.size, preprocess.channels))
    left_out = (f"{foreign} images of no wanted class",) if foreign else ()
    return Found(ArrayStore(array, SOURCE), np.arange(len(array)), np.array(kept, np.int64), SOURCE, left_out)


def _checked(pair: object, where: str) -> Pair:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise CrispError(f"{where} is no (image, label) pair but a {type(pair).__name__}. Give pairs.")
    return pair[0], pair[1]


def _picture(image: Image.Image | npt.ArrayLike, preprocess: Preprocess, where: str) -> Picture:
    """The image of a pair. Deep ones need a range from the user: there is no header, and no whole set to look at."""
    if not isinstance(image, Image.Image):
        return from_array(image, where)
    kind = deep_kind(image)
    if kind is not None and preprocess.range is None:
        raise CrispError(
            f"{where} has {kind.name} samples. Say with range=LOW/HIGH in the preprocessing what is black and what "
            "white, or give 8-bit images."
        )
    return Picture(image, None if kind is None else Depth(kind))


def _output(label: object, classes: Classes, labels: Labels | None, where: str, outputs: int | None) -> int | None:
    """The output that a label means, or None when it is none of the user's classes."""
    if isinstance(label, str):
        try:
            return wanted(label, classes, labels)
        except CrispError as error:
            raise CrispError(f"{where}: {error}") from None
    value = np.asarray(label)
    if value.size != 1 or value.dtype.kind not in "iu":
        raise CrispError(f"{where} has the label {label!r}, which is neither an output index nor a name.")
    require_outputs(value, outputs, f"{where} has")
    index = int(value.reshape(()))
    return index if index in classes.indices else None
