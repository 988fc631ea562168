"""The matrix view of a weight: (Cout, K) with the input channel fastest, padded with zeros to whole blocks."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


def padded_matrix(weight: npt.NDArray[T], block: int) -> npt.NDArray[T]:
    """(Cout, Cin, kh, kw) -> (R*B, C*B); rows and K are padded with zeros."""
    rows, k = weight.shape[0], int(np.prod(weight.shape[1:]))
    out = np.zeros((-(-rows // block) * block, -(-k // block) * block), weight.dtype)
    out[:rows, :k] = weight.transpose(0, 2, 3, 1).reshape(rows, k)
    return out


def from_matrix(matrix: npt.NDArray[T], shape: tuple[int, ...]) -> npt.NDArray[T]:
    """The inverse of `padded_matrix`: (R*B, C*B) -> (Cout, Cin, kh, kw), the padding cut off."""
    cout, cin, kh, kw = shape
    cut = matrix[:cout, : cin * kh * kw].reshape(cout, kh, kw, cin)
    return np.ascontiguousarray(cut.transpose(0, 3, 1, 2))
