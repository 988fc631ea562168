"""`Store`: results by key, kept on disk. A file an entry, so that processes which write at once lose nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from crisp_onnx.say_once import say_once

MAX_BYTES = 1 << 20


class Store:
    """What a run found out and the next need not: JSON values by key in `folder`.

    What cannot be read is absent, and what cannot be written is not kept: it costs the next run its time, nothing else.
    Either is said once a folder. With `folder` None nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> Any:
        """The value kept under `key`, or None."""
        if self.folder is None:
            return None
        try:
            entry = json.loads(_read(self._file(self.folder, key)))
            return entry["value"] if entry["key"] == key else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            say_once(
                logging.WARNING, f"What is kept in {self.folder} cannot be read ({_said(error)}); it is made anew."
            )
            return None

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value; the last writer of a key wins."""
        if self.folder is None:
            return
        text = json.dumps({"key": key, "value": value})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            fresh = Path(name)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                fresh.replace(self._file(self.folder, key))
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            say_once(logging.WARNING, f"Results cannot be kept in {self.folder}: {_said(error)}.")

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"


def cache_folder() -> Path | None:
    """The user's folder for what can be made anew; None where the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "crisp_onnx"
    except RuntimeError:
        return None


def _read(path: Path) -> bytes:
    """A regular file of moderate size; a pipe would wait for ever."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("an entry is no plain file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError("an entry is too large")
    return content


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__
