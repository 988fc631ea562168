"""Refuse, before any work is done, results that would replace what is read or that have no place to stand."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None], remedy: str) -> None:
    """Every command that writes asks this first. `inputs`: files that are read; None is no file.

    Raises:
        CrispError: an output is one of the inputs, by whatever name, or stands where a folder is. `remedy` says what
            to do about it.
    """
    read = [path for path in inputs if path is not None]
    for output in outputs:
        if output.is_dir():
            raise CrispError(f"{shown(str(output))} is a folder, and a file of the result goes there. {remedy}")
        for path in read:
            if _same(output, path):
                raise CrispError(f"The result would overwrite {shown(str(path))}, which is read. {remedy}")


def require_place(path: Path) -> None:
    """Whether a file could be written to `path` later on.

    Raises:
        CrispError: its folder is missing or read-only, or it is a folder itself.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CrispError(
            f"Cannot write {shown(str(path))}: its folder is missing or read-only, or it is a folder itself."
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return one.resolve() == other.resolve()
