"""Files that are read again and again: what tells that one was changed in between."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown

State: TypeAlias = tuple[int, int]
"""Size in bytes, and the time of the last change in nanoseconds."""


def state_of(file: int | str | Path) -> State:
    """The state of an open file, by its number, or of what lies at a path.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(file)  # noqa: PTH116
    return found.st_size, found.st_mtime_ns


def require_state(path: str | Path, state: Iterable[int], what: str) -> None:
    """Whether the file still has that `state`. Ask after reading, so that no change slips through.

    Raises:
        CrispError: it is not; `what` ("The image") names its kind.
    """
    with border(f"{what} {shown(str(path))} cannot be read any more", "Start again."):
        changed = state_of(path) != tuple(state)
    if changed:
        raise CrispError(
            f"{what} {shown(str(path))} was changed while it was in use. Start again, with files that stay as they are."
        )
