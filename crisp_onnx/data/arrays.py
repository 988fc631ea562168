"""Pixels kept in an array, in memory or in a file, and the temporary files behind arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from crisp_onnx.data.file_state import state_of
from crisp_onnx.data.images import Indices
from crisp_onnx.data.pixels import Picture, Pixels
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.rows import Array, FileRows
from crisp_onnx.errors import CrispError


@dataclass(frozen=True, eq=False)
class ArrayStore:
    """uint8 pixels (n, h, w), (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels; `where` names them in messages."""

    array: Pixels | FileRows
    where: str

    def read(self, rows: Indices, preprocess: Preprocess) -> Pixels:
        """Fitted pixels (len(rows), h, w, channels). Images that have the right form already are only copied."""
        height, width = preprocess.size
        fitted = (height, width, preprocess.channels)
        if self.array.shape[1:] == fitted and preprocess.resize in (None, height, fitted):
            return np.asarray(self.array[rows])
        pixels = np.empty((len(rows), *fitted), np.uint8)
        for place, row in enumerate(rows):
            pixels[place] = preprocess.fit(from_array(self.array[row], f"Image {row} of {self.where}"))
        return pixels

    def content(self, rows: Indices) -> Iterator[bytes]:
        """The pixels of each row."""
        return (self.array[row].tobytes() for row in rows)


def from_array(array: npt.ArrayLike, where: str) -> Picture:
    """The image of uint8 pixels shaped (h, w), (h, w, c) or (c, h, w), with 1, 3 or 4 channels.

    Raises:
        CrispError: another type or shape; the message names `where`.
    """
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8:
        raise CrispError(f"{where} holds {pixels.dtype} values. Give images as uint8 from 0 to 255.")
    return Picture(Image.fromarray(np.ascontiguousarray(channels_last(pixels, where))))


def channels_last(pixels: Pixels, where: str) -> Pixels:
    """View pixels (.., h, w[, c]) or (.., c, h, w) of one image as (h, w) or (h, w, c).

    Raises:
        CrispError: the shape is none of these, or a side is 0.
    """
    if 0 not in pixels.shape:
        if pixels.ndim == 2:
            return pixels
        if pixels.ndim == 3 and pixels.shape[-1] in (1, 3, 4):
            return np.squeeze(pixels, -1) if pixels.shape[-1] == 1 else pixels
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
            return np.squeeze(pixels, 0) if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    raise CrispError(
        f"{where} has the shape {'x'.join(map(str, pixels.shape)) or 'of a number'}, which is no image. "
        "Give (h, w), (h, w, c) or (c, h, w) with 1, 3 or 4 channels."
    )


def checked_store(array: Pixels | FileRows, where: str) -> ArrayStore:
    """A store of an array of images.

    Raises:
        CrispError: the array is not uint8, or its shape is none of those that `ArrayStore` takes.
    """
    if array.dtype != np.uint8:
        raise CrispError(f"{where} holds {array.dtype} values. Give images as uint8 from 0 to 255.")
    if array.ndim < 3:
        raise CrispError(
            f"{where} has the shape {array.shape}, which holds no images. Give (n, h, w), (n, h, w, c) or (n, c, h, w)."
        )
    channels_last(np.broadcast_to(np.uint8(0), array.shape[1:]), f"An image of {where}")
    return ArrayStore(array, where)


def spooled(arrays: Iterable[Array], dtype: np.dtype[Any], shape: tuple[int, ...]) -> FileRows:
    """Write arrays (.., *shape) one after the other to a temporary file: (n, *shape).

    The file has no name and vanishes with the rows.
    """
    file = temporary()
    length = 0
    for array in arrays:
        write(file, np.ascontiguousarray(array, dtype).tobytes())
        length += array.size
    return stored(file, dtype, (length // int(np.prod(shape)), *shape))


def write(file: IO[bytes], content: bytes) -> None:
    """Append to a temporary file.

    Raises:
        CrispError: the disk of temporary files is full.
    """
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise CrispError(
            f"Images cannot be kept in {tempfile.gettempdir()}: {error.strerror}. Free some space or set TMPDIR."
        ) from error


def temporary() -> IO[bytes]:
    """An unnamed temporary file, gone when the last rows in it are.

    Raises:
        CrispError: there is no room for temporary files.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise CrispError(f"No temporary file can be made: {error}. Free some space or set TMPDIR.") from error


def stored(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> FileRows:
    """The written content of a temporary file, which stays on disk until it is read."""
    return FileRows(file, 0, dtype, shape, f"A temporary file in {tempfile.gettempdir()}", state_of(file.fileno()))
