"""`Store`: results by key, kept on disk. A file an entry, so that processes which write at once lose nothing.

Entries are JSON, and plain arrays in NumPy's own format; nothing is pickled, and nothing that is read can make more of
itself than its file holds.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from crisp_onnx.say_once import say_once

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[np.generic]]

MAX_BYTES = 1 << 20
"""Of a JSON value; arrays are as large as they are."""
_ABOUT = "about.json"


class Store:
    """What a run found out and the next need not: JSON values, and arrays, by key in `folder`.

    What cannot be read is absent, and what cannot be written is not kept: it costs the next run its time, nothing else.
    Either is said once a folder. With `folder` None nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> Any:
        """The JSON value kept under `key`, or None."""
        return self._get(key, ".json", lambda file: _checked(json.loads(_bounded(file)), key)["value"])

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value; the last writer of a key wins."""
        text = json.dumps({"key": key, "value": value})
        self._put(key, ".json", lambda file: file.write(text.encode()))

    def get_arrays(self, key: str) -> tuple[Any, Arrays] | None:
        """The JSON value and the arrays kept under `key` by `put_arrays`, or None."""
        found: tuple[Any, Arrays] | None = self._get(key, ".npz", lambda file: _unpacked(file, key))
        return found

    def put_arrays(self, key: str, arrays: Arrays, value: Any = None) -> None:
        """Keep arrays of numbers by name, and a JSON value beside them, as one entry.

        Raises:
            ValueError: an array holds objects.
        """
        self._put(key, ".npz", lambda file: _packed(file, key, arrays, value))

    def _get(self, key: str, suffix: str, read: Callable[[BinaryIO], Any]) -> Any:
        if self.folder is None:
            return None
        try:
            with _opened(self._file(self.folder, key, suffix)) as file:
                return read(file)
        except FileNotFoundError:
            return None
        except Exception as error:  # readers raise nearly anything at a damaged file
            say_once(
                logging.WARNING, f"What is kept in {self.folder} cannot be read ({_said(error)}); it is made anew."
            )
            return None

    def _put(self, key: str, suffix: str, write: Callable[[BinaryIO], object]) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            fresh = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    write(file)
                fresh.replace(self._file(self.folder, key, suffix))
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            say_once(logging.WARNING, f"Results cannot be kept in {self.folder}: {_said(error)}.")

    @staticmethod
    def _file(folder: Path, key: str, suffix: str) -> Path:
        return folder / (hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40] + suffix)


def cache_folder() -> Path | None:
    """The user's folder for what can be made anew; None where the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "crisp_onnx"
    except RuntimeError:
        return None


def _opened(path: Path) -> BinaryIO:
    """A regular file; a pipe would wait for ever."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise OSError("an entry is no plain file")
    return file


def _bounded(file: IO[bytes]) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError("an entry is too large")
    return content


def _checked(entry: Any, key: str) -> Any:
    if entry["key"] != key:
        raise ValueError("an entry is another key's")
    return entry


def _packed(file: BinaryIO, key: str, arrays: Arrays, value: Any) -> None:
    import numpy as np

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_ABOUT, json.dumps({"key": key, "value": value, "names": list(arrays)}))
        for number, array in enumerate(arrays.values()):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _unpacked(file: BinaryIO, key: str) -> tuple[Any, Arrays]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError("an entry is compressed")
        with archive.open(_ABOUT) as about:
            entry = _checked(json.loads(_bounded(about)), key)
        return entry["value"], {
            str(name): _array(archive.read(f"{number}.npy")) for number, name in enumerate(entry["names"])
        }


def _array(content: bytes) -> npt.NDArray[np.generic]:
    """An array in NumPy's format. Its size is that of its bytes, whatever its header says."""
    import numpy as np

    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    flat = np.frombuffer(content[stream.tell() :], dtype)  # raises for objects
    array: npt.NDArray[np.generic] = flat.reshape(shape, order="F" if fortran else "C").copy()
    return array


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__
