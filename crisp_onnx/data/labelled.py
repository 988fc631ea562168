"""Arrays with a label for each row, as data sets in one file hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.images import Indices, Store
from crisp_onnx.data.rows import FileRows
from crisp_onnx.errors import CrispError

MAX_ROWS = 1 << 24


@dataclass(frozen=True, eq=False)
class LabelledArrays:
    """`rows` (k,) of a store and the label of each (k,), or None where there are no labels.

    Labels count in `names` where there are names, else in the model's outputs. `left_out`: rows not used, and why.
    """

    store: Store
    rows: Indices
    labels: Indices | None
    names: tuple[str, ...] | None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PixelArrays:
    """`rows` (k,) of a store, and a label for each pixel, (n, h, w) by the numbers of the rows; the rest as above."""

    store: Store
    rows: Indices
    labels: FileRows | None
    names: tuple[str, ...] | None
    left_out: tuple[str, ...] = ()


def checked_labels(labels: npt.NDArray[Any], count: int, names: tuple[str, ...] | None, where: str) -> Indices:
    """Labels as int64 (n,).

    Raises:
        CrispError: they are not whole numbers, not one an image, or outside of `names`.
    """
    check_form(labels.dtype, labels.shape, count, where)
    flat = labels.reshape(-1)
    if flat.size and flat.max() > np.iinfo(np.int64).max:
        raise CrispError(f"y of {where} holds the label {flat.max()}, which is no output. Correct it.")
    whole = flat.astype(np.int64)
    if names is not None and count and not 0 <= whole.min() <= whole.max() < len(names):
        wrong = whole.min() if whole.min() < 0 else whole.max()
        raise CrispError(f"y of {where} holds the label {wrong}, but there are {len(names)} class names.")
    return whole


def require_outputs(labels: Indices, outputs: int | None, where: str) -> None:
    """Refuse labels that go beyond the outputs of the model, as those that count from 1 do: the others are wrong too.

    Below 0, where some mark images without a class, there are no outputs to be mistaken for. `where` begins the
    message, for example "y of d.npz holds".

    Raises:
        CrispError: there is such a label.
    """
    if outputs is not None and labels.size and labels.max() >= outputs:
        raise CrispError(
            f"{where} the label {labels.max()}, but the model's outputs are 0 to {outputs - 1}, so that its numbers "
            "are no outputs. Give the output of each image, counted from 0."
        )


def check_form(dtype: np.dtype[Any], shape: tuple[int, ...], count: int, where: str) -> None:
    """Whether labels of that type and shape can be those of `count` images; cheap, before they are read.

    Raises:
        CrispError: they are not whole numbers, not one an image, or too many.
    """
    if dtype.kind not in "iu" or len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise CrispError(f"y of {where} holds {dtype} of shape {shape}. Give one whole number an image.")
    if shape[0] != count:
        raise CrispError(f"{where} has {count} images but {shape[0]} labels. Save one label an image.")
    if count > MAX_ROWS:
        raise CrispError(f"{where} has {count} images, more than {MAX_ROWS}. Split it.")
