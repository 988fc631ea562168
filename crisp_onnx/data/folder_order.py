"""The orders in which training scripts number class folders, and a few images of each folder to tell them apart by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from crisp_onnx.data.folder import sound_files
from crisp_onnx.data.images import Images
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.survey import survey
from crisp_onnx.data.tally import Tally
from crisp_onnx.data.walk import entries, files, identity
from crisp_onnx.reading import shown

Order = Literal["lexical", "natural"]
ORDERS: tuple[Order, ...] = ("lexical", "natural")
"""`lexical`: 1, 10, 11, 2, as torchvision and Keras sort; `natural`: 1, 2, 10, 11, as timm does."""


def in_order(names: Iterable[str], order: Order) -> tuple[str, ...]:
    """The names of class folders in the order in which they number the outputs."""
    return tuple(sorted(names)) if order == "lexical" else tuple(sorted(sorted(names), key=_natural))


def folder_images(root: Path, folders: Sequence[str], per_folder: int, preprocess: Preprocess) -> Images:
    """Up to `per_folder` images of each of these class folders; the label is the folder's place in `folders`.

    Raises:
        CrispError: a folder cannot be read.
    """
    above = identity(root)
    by_name = {shown(entry.name): entry for entry in entries(root) if entry.is_folder and not entry.hidden}
    paths: list[str] = []
    labels: list[int] = []
    for place, folder in enumerate(folders):
        sound = (path for path, wrong in files(by_name[folder], above) if wrong is None)
        paths += islice(sound, per_folder)
        labels += [place] * (len(paths) - len(labels))
    found = survey(str(root), paths, preprocess.range, Tally())
    store = sound_files(root, paths, found)
    rows = np.arange(len(found.sound))
    return Images(store, rows, np.array(labels, np.int64)[found.sound], preprocess, f"image folder {shown(str(root))}")


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Runs of digits by their value, the rest without regard to case."""
    parts = re.split(r"(\d{1,18})", name.lower())
    return tuple((0, int(part)) if place % 2 else (1, part) for place, part in enumerate(parts) if part)
