"""Labels of pixels: PNG files whose pixels are output indices, or an array (n, h, w); read in batches like images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from crisp_onnx.data.file_state import State, require_state, state_of
from crisp_onnx.data.images import Indices
from crisp_onnx.data.pixels import MAX_PIXELS, MAX_SIDE, Labels, fit_labels
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.rows import FileRows
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown

IGNORED = 255
"""The label of pixels that count nowhere."""
ELSEWHERE = -1
"""Stands for a class of the data set that is none of the model's outputs."""
MODES = ("P", "L", "1")
DEEP_MODES = ("I", "I;16", "I;16B")
STRETCHED = {"L;2": 85, "L;4": 17}
"""Grey of fewer bits, which Pillow stretches to 255, by what it multiplies with."""


@dataclass(frozen=True, eq=False)
class LabelFiles:
    """PNG files; a row is a place in `paths`, given relative to `root`, and in the `states` that they have to keep."""

    root: str
    paths: tuple[str, ...]
    states: tuple[State, ...]

    def read(self, rows: Indices, form: Any) -> Indices:
        """(len(rows), h, w), resized and cropped as the images are."""
        return np.stack([_fitted(self._whole(int(row)), form) for row in rows])

    def _whole(self, row: int) -> Labels:
        path = Path(self.root, self.paths[row])
        labels = read_labels_of(path)
        require_state(path, self.states[row], "The label file")
        return labels

    def content(self, rows: Indices) -> Iterator[bytes]:
        """The file of each row."""
        for row in rows:
            path = Path(self.root, self.paths[row])
            with border(f"The labels {shown(str(path))} cannot be read", "Replace or delete them."):
                held = path.read_bytes()
            yield held


def label_files(root: Path, paths: Iterable[str]) -> LabelFiles:
    """The PNG files at `paths` under `root`, which have to stay as they are now.

    Raises:
        CrispError: one of them is gone.
    """
    paths, states = tuple(paths), []
    for path in paths:
        with border(f"The labels {shown(str(root / path))} cannot be read", "Replace or delete them."):
            states.append(state_of(root / path))
    return LabelFiles(str(root), paths, tuple(states))


@dataclass(frozen=True, eq=False)
class LabelArray:
    """Whole numbers (n, h, w), in memory or in a file. `outputs[i]`: the output of label i; None: they are outputs."""

    array: npt.NDArray[Any] | FileRows
    outputs: Indices | None

    def read(self, rows: Indices, form: Any) -> Indices:
        """(len(rows), h, w), resized and cropped as the images are."""
        return np.stack([_fitted(self.whole(int(row)), form) for row in rows])

    def whole(self, row: int) -> Labels:
        """The labels (h, w) of one row as outputs, as they are stored."""
        stored = np.asarray(self.array[row])
        if self.outputs is None:
            return stored.astype(np.int32)
        ignored = stored == IGNORED
        return np.where(ignored, IGNORED, self.outputs[np.where(ignored, 0, stored)]).astype(np.int32)

    def content(self, rows: Indices) -> Iterator[bytes]:
        """The labels of each row."""
        return (self.array[row].tobytes() for row in rows)


def read_labels_of(path: Path) -> Labels:
    """The labels (h, w) in a grey or palette PNG.

    Raises:
        CrispError: the file is missing, damaged, no PNG, or holds colours.
    """
    remedy = "Save a PNG, grey or with a palette, whose pixels are the indices of the model's outputs."
    with (
        border(f"The labels {shown(str(path))} cannot be read", remedy),
        Image.open(path, formats=("PNG",)) as image,
    ):
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS >> 20} Mi")
        if image.mode not in (*MODES, *DEEP_MODES):
            raise ValueError(f"its pixels are {image.mode} colours and not indices")
        factor = STRETCHED.get(str(image.tile[0][3]), 1)
        return np.array(image).astype(np.int32) // factor


def _fitted(labels: Labels, form: Any) -> Indices:
    if isinstance(form, Preprocess):
        return fit_labels(labels, form.size, form.resize).astype(np.int64)
    return labels.astype(np.int64)


def check_values(counts: Indices, outputs: int, where: str) -> None:
    """Refuse labels that are no output of the model. `counts[i]`: pixels labelled i.

    Raises:
        CrispError: there are some; the message says which.
    """
    wrong = [int(value) for value in np.flatnonzero(counts) if value >= outputs and value != IGNORED]
    if wrong:
        raise CrispError(
            f"{where} hold the label {wrong[0]}, but the model has the outputs 0 to {outputs - 1}. Save the indices of "
            f"the outputs, and {IGNORED} where a pixel is not to count."
        )
