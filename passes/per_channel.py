"""Read a stored constant as one number per output channel of a layer, under ONNX broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.floating]


def per_channel(values: npt.NDArray[Any], rows: int, *, trailing: int, rank: int) -> Row | None:
    """(rows,) when `values` broadcasts so against a tensor of `rows` channels, else None.

    `trailing`: axes behind the channels, 2 for images and 0 for rows of a matrix. `rank`: axes of the tensor; a
    constant with more of them would add axes to the result.
    """
    if values.ndim > rank:
        return None
    if values.size == 1:
        return np.full(rows, values.reshape(-1)[0], values.dtype)
    shape = [1] * (trailing + 1 - values.ndim) + list(values.shape)
    if values.size != rows or shape[-1 - trailing] != rows:
        return None
    return values.reshape(-1)
