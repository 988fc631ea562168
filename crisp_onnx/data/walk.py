"""Walk a folder of images: every file once, links followed but never in a circle, what is passed over with a reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.data.tally import Reason
from crisp_onnx.reading import border, reason, shown

SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".tga", ".sgi", ".qoi",
    )
)  # fmt: skip
# Images by their names, of kinds that need a library of their own.
OTHER_KINDS = frozenset(
    (
        ".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".eps", ".dcm", ".exr", ".hdr", ".dng", ".cr2", ".cr3",
        ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw",
    )
)  # fmt: skip
# What systems leave behind in any folder; hidden like names with a dot.
LEFT_BEHIND = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))

HIDDEN = Reason("hidden file", "hidden files")
BROKEN = Reason("broken link", "broken links")
CIRCLE = Reason("link to a folder that is walked already", "links to folders that are walked already")
SPECIAL = Reason("name that is neither file nor folder", "names that are neither file nor folder")
EMPTY = Reason("empty file", "empty files")
NO_IMAGE = Reason("file that is no image", "files that are no images")
OTHER_KIND = Reason(
    "image of a kind that is not read", "images of kinds that are not read", "convert them to PNG or JPEG"
)


Identity = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A name in a folder, with what it leads to: a folder, or a file; `wrong` says why a file is no image by it.

    `identity` tells folders apart, whatever links lead to them.
    """

    name: str
    path: str
    is_folder: bool
    identity: Identity = (0, 0)
    wrong: Reason | None = None

    @property
    def hidden(self) -> bool:
        return self.name.startswith(".") or self.name in LEFT_BEHIND


def entries(folder: Path) -> list[Entry]:
    """What lies in a folder, sorted by name.

    Raises:
        CrispError: the folder cannot be read.
    """
    with border(f"The folder {shown(str(folder))} cannot be read"):
        return _listing(str(folder))


def identity(folder: Path) -> Identity:
    """What tells a folder apart, whatever links lead to it.

    Raises:
        CrispError: there is no such folder.
    """
    with border(f"The folder {shown(str(folder))} cannot be read"):
        status = folder.stat()
    return status.st_dev, status.st_ino


def files(top: Entry, above: Identity) -> Iterator[tuple[str, Reason | None]]:
    """Every file under the folder `top`, by its path from the folder above it; None where it looks like an image.

    A folder to which several links lead is walked once, so that neither circles nor crossing links multiply; `above`
    is the identity of the folder above, which no link leads back to.
    """
    seen = {above}
    levels = [(iter([top]), "", False)]
    while levels:
        level, prefix, hidden = levels[-1]
        entry = next(level, None)
        if entry is None:
            levels.pop()
            continue
        path = prefix + entry.name
        concealed = hidden or entry.hidden
        if not entry.is_folder:
            yield path, HIDDEN if concealed else entry.wrong
        elif entry.identity in seen:
            yield path, CIRCLE
        else:
            seen.add(entry.identity)
            try:
                levels.append((iter(_listing(entry.path)), f"{path}/", concealed))
            except OSError as error:
                yield path, Reason("folder that cannot be read", "folders that cannot be read", reason(error))


def _listing(folder: str) -> list[Entry]:
    with os.scandir(folder) as found:
        return [_entry(entry) for entry in sorted(found, key=lambda entry: entry.name)]


def _entry(entry: os.DirEntry[str]) -> Entry:
    try:
        status = os.stat(entry.path)  # noqa: PTH116
    except OSError as error:
        unreadable = Reason("file that cannot be read", "files that cannot be read", reason(error))
        return Entry(entry.name, entry.path, is_folder=False, wrong=BROKEN if entry.is_symlink() else unreadable)
    if stat.S_ISDIR(status.st_mode):
        return Entry(entry.name, entry.path, is_folder=True, identity=(status.st_dev, status.st_ino))
    wrong = _by_name(entry.name) or (None if status.st_size else EMPTY) if stat.S_ISREG(status.st_mode) else SPECIAL
    return Entry(entry.name, entry.path, is_folder=False, wrong=wrong)


def _by_name(name: str) -> Reason | None:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    if suffix in OTHER_KINDS:
        return OTHER_KIND
    return None if suffix in SUFFIXES else NO_IMAGE
