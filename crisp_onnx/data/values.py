"""Values that go into a model as they are: tables, signals, pictures of many channels. No pixels, no preprocessing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.rows import Array, FileRows
from crisp_onnx.data.tally import Reason, Tally
from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import DEFAULT_SIZE, Size, TensorSpec

VALUES_AT_ONCE = 1 << 24
NOT_FINITE = Reason("row with values that are not finite", "rows with values that are not finite")


@dataclass(frozen=True)
class AsIs:
    """The input of a model is what the data set holds: `shape` a row, in the model's element type.

    `size`: height and width that open axes of the input count as. `assumed` is empty: nothing had to be.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    size: Size
    assumed: str = ""

    @property
    def layout(self) -> None:
        """Nothing is known of what the axes mean."""
        return None

    def normalise(self, values: Array) -> Array:
        """Rows (b, *shape) in the model's element type, contiguous."""
        return np.ascontiguousarray(values, self.dtype)


@dataclass(frozen=True, eq=False)
class ValueStore:
    """Rows of an array (n, ...), in memory or in a file; `where` names it in messages."""

    array: Array | FileRows
    where: str

    def read(self, rows: npt.NDArray[np.int64], preprocess: object) -> Array:
        """The given rows as they are."""
        return np.asarray(self.array[rows])

    def content(self, rows: npt.NDArray[np.int64]) -> Iterator[bytes]:
        """The values of each row."""
        return (self.array[row].tobytes() for row in rows)


def as_is(spec: TensorSpec, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> AsIs:
    """How an array (n, *shape) of a data set becomes the input `spec`; `where` names it in messages.

    Raises:
        CrispError: the shape or the type of the rows does not fit the input.
    """
    wanted, given = spec.shape[1:], shape[1:]
    fits = len(wanted) == len(given) and all(own in (None, side) for own, side in zip(wanted, given, strict=True))
    if not fits or 0 in given:
        shown = "x".join("?" if side is None else str(side) for side in wanted)
        raise CrispError(
            f"{where} holds rows of {'x'.join(map(str, given)) or 'one value'}, but input {spec.name!r} takes "
            f"{shown or 'one value'} each. Save what the model takes."
        )
    if dtype.kind not in "fiub" or (dtype.kind == "f" and spec.dtype.kind != "f"):
        raise CrispError(f"{where} holds {dtype} values, but input {spec.name!r} takes {spec.dtype}. Save those.")
    return AsIs(given, spec.dtype, _size(spec, given, where))


def finite_rows(array: Array | FileRows, dtype: np.dtype[Any], where: str, tally: Tally) -> npt.NDArray[np.int64]:
    """The places of the rows whose values are all finite in the model's element type; the others go to `tally`."""
    if array.dtype.kind != "f" or dtype.kind != "f":
        return np.arange(len(array))
    width = math.prod(array.shape[1:])
    at_once = max(1, VALUES_AT_ONCE // max(1, width))
    sound = np.ones(len(array), bool)
    for start in range(0, len(array), at_once):
        rows = slice(start, start + at_once)
        with np.errstate(over="ignore"):
            sound[rows] = np.isfinite(array[rows].astype(dtype)).reshape(-1, width).all(1)
    for row in np.flatnonzero(~sound):
        tally.add(NOT_FINITE, f"row {row} of {where}")
    return np.flatnonzero(sound)


def _size(spec: TensorSpec, given: tuple[int, ...], where: str) -> Size:
    """What the open axes of `spec` count as, so that `spec.filled` gives the shape of the rows."""
    candidates = [DEFAULT_SIZE]
    if len(given) == 3:
        candidates += [(given[0], given[1]), (given[1], given[2])]
    candidates += [(side, side) for side in given]
    for size in candidates:
        if spec.filled(1, size)[1:] == given:
            return size
    raise CrispError(
        f"Input {spec.name!r} leaves axes open in a way that {where} cannot fill. Export the model with fixed axes."
    )
