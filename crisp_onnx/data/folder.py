"""Image folders: `root/<class>/**/image`, names resolved like the lines of a class list; or images without labels."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.classes import Classes, wanted
from crisp_onnx.data.file_state import require_state
from crisp_onnx.data.found import Found
from crisp_onnx.data.images import Indices
from crisp_onnx.data.labels import Labels
from crisp_onnx.data.pixels import Pixels, decode
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.survey import Survey, survey
from crisp_onnx.data.tally import Reason, Tally, listed
from crisp_onnx.data.walk import HIDDEN, Entry, Identity, entries, files, identity
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown

SPLITS = ("train", "training", "val", "valid", "test")
BESIDE = Reason("image beside the class folders", "images beside the class folders")


@dataclass(frozen=True, eq=False)
class FileStore:
    """Image files; a row is a place in `paths`, given relative to `root`, in `ranges` and in `states`.

    `ranges` (n, 2) are the samples that mean black and white in a deep image; not a number where it has 8 bits.
    `states` (n, 2): those of the files when they were looked at, which must stay as they are.
    """

    root: str
    paths: tuple[str, ...]
    ranges: npt.NDArray[np.float64]
    states: npt.NDArray[np.int64]

    def read(self, rows: Indices, preprocess: Preprocess) -> Pixels:
        """Fitted pixels (len(rows), h, w, channels)."""
        return np.stack([self._fitted(int(row), preprocess) for row in rows])

    def content(self, rows: Indices) -> Iterator[bytes]:
        """The file of each row."""
        for row in rows:
            path = Path(self.root, self.paths[row])
            with border(f"The image {shown(str(path))} cannot be read", "Replace or delete it."):
                held = path.read_bytes()
            yield held

    def _fitted(self, row: int, preprocess: Preprocess) -> Pixels:
        path = os.path.join(self.root, self.paths[row])  # noqa: PTH118
        picture = decode(path)
        require_state(path, self.states[row], "The image")
        low, high = self.ranges[row]
        return preprocess.fit(picture, None if math.isnan(low) else (low, high))


def sound_files(root: Path, paths: Sequence[str], found: Survey) -> FileStore:
    """The images that can be read among `paths`, as they were `found`."""
    sound = found.sound
    return FileStore(str(root), tuple(paths[place] for place in sound), found.ranges[sound], found.states[sound])


def class_folders(root: Path) -> list[str]:
    """The names of the class folders, sorted, as messages show them; hidden ones are passed over.

    Raises:
        CrispError: the folder cannot be read.
    """
    return [shown(entry.name) for entry in entries(root) if entry.is_folder and not entry.hidden]


def read_folder(root: Path, classes: Classes, labels: Labels | None, preprocess: Preprocess) -> Found:
    """The image files of the user's classes; other folders and files are counted as left out.

    A folder that holds images and no folders is one of images without labels.

    Raises:
        CrispError: the folder cannot be read, or a folder's name may mean one of the classes or something else.
    """
    above = identity(root)
    listing = entries(root)
    folders = [entry for entry in listing if entry.is_folder and not entry.hidden]
    tally = Tally()
    beside: list[str] = []
    for entry in listing:
        if entry.is_folder and entry.hidden:
            for path, _ in files(entry, above):
                tally.add(HIDDEN, path)
        elif not entry.is_folder:
            wrong = HIDDEN if entry.hidden else entry.wrong or (BESIDE if folders else None)
            if wrong is None:
                beside.append(entry.name)
            else:
                tally.add(wrong, entry.name)
    named = _by_class(root, folders, above, classes, labels, tally)
    paths = beside if not folders else named.paths
    found = survey(str(root), paths, preprocess.range, tally)
    store = sound_files(root, paths, found)
    left_out = tally.sentences()
    return Found(
        store,
        np.arange(len(found.sound)),
        np.array(named.outputs, np.int64)[found.sound] if folders else None,
        f"image folder {shown(str(root))}",
        (*named.foreign, *left_out),
        _hint([shown(entry.name) for entry in folders], root, left_out),
        found.notes,
    )


@dataclass(frozen=True)
class _ByClass:
    """Image files of the class folders with the output of each, and a word on the folders of other classes."""

    paths: list[str]
    outputs: list[int]
    foreign: tuple[str, ...]


def _by_class(
    root: Path, folders: list[Entry], above: Identity, classes: Classes, labels: Labels | None, tally: Tally
) -> _ByClass:
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
    if not foreign:
        return _ByClass(paths, outputs, ())
    named = listed(list(foreign)[:5], len(foreign))
    images, several = sum(foreign.values()), len(foreign)
    return _ByClass(paths, outputs, (f"{images} images in {several} folders of no wanted class ({named})",))


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
    return (f" Its folders are {listed(folders[:5], len(folders))}." if folders else "") + without
