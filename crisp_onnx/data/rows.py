"""Rows of an array that lies in a file, read when they are asked for: memory holds no more than those.

They are read and not mapped: a mapped file that is cut meanwhile ends the process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.file_state import State, state_of
from crisp_onnx.errors import CrispError

Array: TypeAlias = npt.NDArray[Any]
BLOCK_BYTES = 128 << 20


@dataclass(frozen=True, eq=False)
class FileRows:
    """An array of `shape` (n, ...), row after row from the byte `start` of an open `file` on; `where` names it.

    `state`: size and time of the last change of the file, which must stay as they are.
    """

    file: IO[bytes]
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    where: str
    state: State

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | npt.NDArray[np.int64]) -> Array:
        """The values of one row, of a range of rows, or of the rows given, in their order.

        Raises:
            CrispError: the file was changed since it was opened, or cannot be read any more.
        """
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(self))
            found = np.empty((max(0, end - first), *self.shape[1:]), self.dtype)
            self._fill(found, first)
            return found
        if not isinstance(rows, np.ndarray):
            return np.asarray(self[int(rows) : int(rows) + 1][0])
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for begin, end in pairwise((0, *breaks.tolist(), len(rows))):
            if begin < end:
                self._fill(found[begin:end], int(rows[begin]))
        return found

    def _fill(self, found: Array, first: int) -> None:
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        _read(self, self.start + first * row_bytes, found)


def in_rows(columns: FileRows) -> Iterator[Array]:
    """The rows, block by block, of an array of which the file holds the last axis first (Fortran order).

    Raises:
        CrispError: as `FileRows` raises it.
    """
    count, width = len(columns), math.prod(columns.shape[1:])
    itemsize = columns.dtype.itemsize
    at_once = max(1, BLOCK_BYTES // max(1, width * itemsize))
    for first in range(0, count, at_once):
        block = np.empty((width, min(at_once, count - first)), columns.dtype)
        if block.shape[1] == count:
            _read(columns, columns.start, block)
        else:
            for column in range(width):
                _read(columns, columns.start + (column * count + first) * itemsize, block[column])
        yield np.ascontiguousarray(block.reshape(*columns.shape[:0:-1], -1).T)


def _read(rows: FileRows, position: int, found: Array) -> None:
    """Fill a contiguous array with the bytes of the file from `position` on."""
    if not found.nbytes:
        return
    rest = found.reshape(-1).view(np.uint8).data
    try:
        while rest and (count := os.preadv(rows.file.fileno(), [rest], position)):
            rest, position = rest[count:], position + count
        changed = bool(rest) or state_of(rows.file.fileno()) != rows.state
    except OSError as error:
        raise CrispError(f"{rows.where} cannot be read any more: {error.strerror}. Start again.") from error
    if changed:
        raise CrispError(f"{rows.where} was changed while it was in use. Start again, with a file that stays as it is.")
