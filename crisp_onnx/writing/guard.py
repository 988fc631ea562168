"""Refuse, before any work is done, results that would replace what is read or that have no place to stand."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown

NAME_BYTES, MOST_PATH_BYTES = 255, 3_800
"""Of one name where the system does not say, and of a path: what is allowed, less room for files in hidden folders."""
SHOWN = 40


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None], remedy: str) -> None:
    """Every command that writes asks this first. `inputs`: files that are read; None is no file.

    Raises:
        CrispError: an output is one of the inputs, by whatever name, or another output, or stands where a folder is, or
            nothing can stand at its name. `remedy` says what to do about it.
    """
    read = [path for path in inputs if path is not None]
    outputs = list(outputs)
    for number, output in enumerate(outputs):
        if any(_same(output, other) for other in outputs[:number]):
            raise CrispError(f"Two results would stand in {shown(str(output))}. {remedy}")
        require_possible(output, remedy)
        if output.is_dir():
            raise CrispError(f"{shown(str(output))} is a folder, and a file of the result goes there. {remedy}")
        for path in read:
            if _same(output, path):
                raise CrispError(f"The result would overwrite {shown(str(path))}, which is read. {remedy}")


def require_name(path: Path, endings: tuple[str, ...], what: str) -> None:
    """A result whose name is that of another kind of file is a slip, and might replace such a file.

    Raises:
        CrispError: the name of `path` ends in none of `endings`. `what`: the result, for the message.
    """
    if path.suffix.lower() not in endings:
        raise CrispError(f"Cannot write {what} to {shown(str(path))}: its name must end in {' or '.join(endings)}.")


def require_possible(path: Path, remedy: str) -> None:
    """Whether a file or folder could ever stand at `path`, its folders made if need be.

    Raises:
        CrispError: a name of it is too long, or it leads through a link that leads nowhere.
    """
    whole = path.absolute()
    there = next((place for place in (whole, *whole.parents) if _is_name(place)), None)
    if there is not None and (wrong := _broken(there)):
        raise CrispError(f"Cannot write {shown(str(path))}: {shown(str(there))} is {wrong}. {remedy}")
    names, most = whole.parts[1:], _most_bytes(there or whole)
    too_long = next((name for name in names if len(os.fsencode(name)) > most), None)
    if too_long is not None:
        raise CrispError(
            f"Cannot write {shown(too_long[:SHOWN])}...: the name has {len(os.fsencode(too_long))} bytes, and {most} "
            f"are allowed. {remedy}"
        )
    if len(os.fsencode(whole)) > MOST_PATH_BYTES:
        raise CrispError(
            f"Cannot write to a path of {len(os.fsencode(whole))} bytes: {MOST_PATH_BYTES} are allowed. {remedy}"
        )


def require_place(path: Path) -> None:
    """Whether a file could be written to `path` later on.

    Raises:
        CrispError: its folder is missing or read-only, it is a folder itself, or nothing can stand at its name.
    """
    require_possible(path, "Choose another name.")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CrispError(
            f"Cannot write {shown(str(path))}: its folder is missing or read-only, or it is a folder itself."
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return one.resolve() == other.resolve()


def _is_name(place: Path) -> bool:
    """Whether something bears the name, if only a link that leads nowhere."""
    try:
        place.lstat()
    except OSError:
        return False
    return True


def _broken(place: Path) -> str:
    """How a link leads nowhere; empty where it is none that does."""
    try:
        place.stat()
    except OSError as error:
        if place.is_symlink():
            return "a link that leads back to itself" if error.errno == errno.ELOOP else "a link to what is not there"
    return ""


def _most_bytes(there: Path) -> int:
    try:
        return os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # a system that does not say
        return NAME_BYTES
