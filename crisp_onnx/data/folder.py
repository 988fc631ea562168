"""Image folders: `root/<class>/**/image`, folder names resolved like the lines of a class list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crisp_onnx.data.classes import Classes, wanted
from crisp_onnx.data.found import Found
from crisp_onnx.data.images import Indices
from crisp_onnx.data.labels import Labels
from crisp_onnx.data.pixels import Pixels, decode
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.errors import CrispError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
SPLITS = ("train", "training", "val", "valid", "test")


@dataclass(frozen=True)
class FileStore:
    """Image files; a row is a place in `paths`, given relative to `root`."""

    root: str
    paths: tuple[str, ...]

    def read(self, rows: Indices, preprocess: Preprocess) -> Pixels:
        """Fitted pixels (len(rows), h, w, channels)."""
        return np.stack([preprocess.fit(decode(os.path.join(self.root, self.paths[row]))) for row in rows])  # noqa: PTH118


def class_folders(root: Path) -> list[str]:
    """The names of the class folders, sorted; hidden ones are passed over.

    Raises:
        CrispError: the folder cannot be read.
    """
    return [entry.name for entry in _entries(str(root)) if entry.is_dir()]


def read_folder(root: Path, classes: Classes, labels: Labels | None) -> Found:
    """The image files of the user's classes; other folders and files are counted as left out.

    Raises:
        CrispError: there are no class folders, or a folder's name may mean one of the classes or something else.
    """
    folders = class_folders(root)
    if not folders:
        raise CrispError(f"{root} has no class folders. Put the images of each class into a folder of its name.")
    paths: list[str] = []
    outputs: list[int] = []
    foreign: dict[str, int] = {}
    not_images = 0
    for folder in folders:
        try:
            output = wanted(folder, classes, labels)
        except CrispError as error:
            raise CrispError(f"Folder {root / folder}: {error}") from None
        files = list(_files(f"{root}/{folder}", folder))
        images = [file for file in files if os.path.splitext(file)[1].lower() in SUFFIXES]  # noqa: PTH122
        if output is None:
            foreign[folder] = len(images)
            continue
        not_images += len(files) - len(images)
        paths += images
        outputs += [output] * len(images)
    left_out = []
    if foreign:
        named = ", ".join(list(foreign)[:5]) + (", ..." if len(foreign) > 5 else "")
        left_out.append(f"{sum(foreign.values())} images in {len(foreign)} folders of no wanted class ({named})")
    if not_images:
        left_out.append(f"{not_images} files that are no images")
    store = FileStore(str(root), tuple(paths))
    return Found(store, np.array(outputs, np.int64), f"image folder {root}", tuple(left_out), _hint(root, folders))


def _hint(root: Path, folders: list[str]) -> str:
    split = next((name for name in folders if name in SPLITS), None)
    if split is not None:
        return f" Did you mean {root / split}?"
    return f" Its folders are {', '.join(folders[:5])}{', ...' if len(folders) > 5 else ''}."


def _files(folder: str, relative: str) -> Iterator[str]:
    """Every file under `folder`, sorted, with its path relative to the root."""
    for entry in _entries(folder):
        path = f"{relative}/{entry.name}"
        if entry.is_dir():
            yield from _files(entry.path, path)
        elif entry.is_file():
            yield path


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if entry.name[0] not in "._"), key=lambda entry: entry.name)
    except OSError as error:
        raise CrispError(f"The folder {folder} cannot be read: {error.strerror}.") from error
