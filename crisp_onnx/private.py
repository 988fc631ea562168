"""A folder that nobody but this user can write to: where code is kept that will be loaded and run again."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path

from crisp_onnx.store import cache_folder

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(name: str) -> Path:
    """`name` in the user's cache folder, of mode 0700; a fresh one for this process where others could write to that.

    Raises:
        OSError: no folder can be made at all.
    """
    cache = cache_folder()
    if cache is not None and claimed(cache / name):
        return cache.absolute() / name
    fresh = Path(tempfile.mkdtemp(prefix=f"crisp_onnx-{name}-"))
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return fresh


def claimed(folder: Path) -> bool:
    """Whether `folder` is this user's alone, and always was: made if there is none, closed if others could read it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _ours(folder):
            return False
        folder.chmod(0o700)
        return all(_safe(parent) for parent in folder.resolve().parents)
    except OSError:
        return False


def _ours(folder: Path) -> bool:
    """A real folder, and not one that another user made or could put something into."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == _user() and not found.st_mode & OTHERS_WRITE


def _safe(parent: Path) -> bool:
    """Nobody but this user and root can replace what lies in it; in a sticky folder, each only what is his own."""
    found = parent.stat()
    others_write = found.st_mode & OTHERS_WRITE and not found.st_mode & stat.S_ISVTX
    return found.st_uid in (_user(), 0) and not others_write


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0
