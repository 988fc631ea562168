"""Image folders: `root/<class>/**/image`, folder names resolved like the lines of a class list."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.classes import Classes, wanted
from crisp_onnx.data.depth import COLOUR_16
from crisp_onnx.data.found import Found
from crisp_onnx.data.images import Indices
from crisp_onnx.data.labels import Labels
from crisp_onnx.data.pixels import Pixels, decode
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.survey import survey
from crisp_onnx.data.tally import Reason, Tally, listed
from crisp_onnx.data.walk import HIDDEN, entries, files, identity
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown

SPLITS = ("train", "training", "val", "valid", "test")
BESIDE = Reason("image beside the class folders", "images beside the class folders")


@dataclass(frozen=True, eq=False)
class FileStore:
    """Image files; a row is a place in `paths`, given relative to `root`, and in `ranges`.

    `ranges` (n, 2) are the samples that mean black and white in a deep image; not a number where it has 8 bits.
    """

    root: str
    paths: tuple[str, ...]
    ranges: npt.NDArray[np.float64]

    def read(self, rows: Indices, preprocess: Preprocess) -> Pixels:
        """Fitted pixels (len(rows), h, w, channels)."""
        return np.stack([self._fitted(int(row), preprocess) for row in rows])

    def _fitted(self, row: int, preprocess: Preprocess) -> Pixels:
        path = os.path.join(self.root, self.paths[row])  # noqa: PTH118
        picture = decode(path)
        low, high = self.ranges[row]
        plain = picture.depth is None or picture.depth.kind is COLOUR_16
        if plain != math.isnan(low):
            raise CrispError(f"The image {shown(path)} was changed while it was being read. Start again.")
        return preprocess.fit(picture, None if plain else (low, high))


def class_folders(root: Path) -> list[str]:
    """The names of the class folders, sorted, as messages show them; hidden ones are passed over.

    Raises:
        CrispError: the folder cannot be read.
    """
    return [shown(entry.name) for entry in entries(root) if entry.is_folder and not entry.hidden]


def read_folder(root: Path, classes: Classes, labels: Labels | None, preprocess: Preprocess) -> Found:
    """The image files of the user's classes; other folders and files are counted as left out.

    Raises:
        CrispError: there are no class folders, or a folder's name may mean one of the classes or something else.
    """
    above = identity(root)
    listing = entries(root)
    folders = [entry for entry in listing if entry.is_folder and not entry.hidden]
    if not folders:
        raise CrispError(f"{root} has no class folders. Put the images of each class into a folder of its name.")
    tally = Tally()
    for entry in listing:
        if entry.is_folder and entry.hidden:
            for path, _ in files(entry, above):
                tally.add(HIDDEN, path)
        elif not entry.is_folder:
            tally.add(HIDDEN if entry.hidden else entry.wrong or BESIDE, entry.name)
    paths: list[str] = []
    outputs: list[int] = []
    foreign: dict[str, int] = {}
    for entry in folders:
        output = _output(entry.name, classes, labels, root)
        if output is None:
            foreign[entry.name] = sum(wrong is None for _, wrong in files(entry, above))
            continue
        for path, wrong in files(entry, above):
            if wrong is None:
                paths.append(path)
                outputs.append(output)
            else:
                tally.add(wrong, path)
    found = survey(str(root), paths, preprocess.range, tally)
    store = FileStore(str(root), tuple(paths[place] for place in found.sound), found.ranges[found.sound])
    left_out = tally.sentences()
    if foreign:
        named = listed(list(foreign)[:5], len(foreign))
        unwanted = f"{sum(foreign.values())} images in {len(foreign)} folders of no wanted class ({named})"
        left_out = (unwanted, *left_out)
    names = [shown(entry.name) for entry in folders]
    return Found(
        store,
        np.array(outputs, np.int64)[found.sound],
        f"image folder {shown(str(root))}",
        left_out,
        _hint(names, root, tally.sentences()),
        found.notes,
    )


def _output(folder: str, classes: Classes, labels: Labels | None, root: Path) -> int | None:
    """The output that a folder's name means, or None when it is none of the user's classes."""
    try:
        return wanted(shown(folder), classes, labels)
    except CrispError as error:
        raise CrispError(f"Folder {shown(str(root / folder))}: {error}") from None


def _hint(folders: list[str], root: Path, left_out: tuple[str, ...]) -> str:
    split = next((name for name in folders if name in SPLITS), None)
    if split is not None:
        return f" Did you mean {shown(str(root / split))}?"
    without = f" Left out: {'; '.join(left_out)}." if left_out else ""
    return f" Its folders are {listed(folders[:5], len(folders))}.{without}"
