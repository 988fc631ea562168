"""A pattern that knows neither weights nor images as a baseline: each block row reads its own share of the columns.

As fixed structured kernels (SSC, arXiv 2210.12818) do, in the blocks and N:M groups of the format: the columns that a
block row keeps are spread evenly over taps and channels, each row's are those of the row above moved on by one, and
every layer keeps the same share. Each column is then read by as many rows as any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from crisp_onnx.format import Pattern
from crisp_onnx.format.matrix import from_matrix
from crisp_onnx.masks import planner
from crisp_onnx.masks.scored import ScoredLayer, score_layer
from crisp_onnx.model import WeightLayer

Floats = npt.NDArray[np.floating]
GOLDEN = 0.618


def places(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """(R, C): how early a block row lets go of each block column, 0 last; a permutation of the columns in every row.

    Steps near the golden section of the columns put any first few far apart.
    """
    step = next(n for n in range(max(1, round(GOLDEN * columns)), columns + 2) if gcd(n, columns) == 1)
    found: npt.NDArray[np.int64] = (np.arange(columns)[None] - np.arange(rows)[:, None]) * step % columns
    return found


def by_place(layer: WeightLayer, pattern: Pattern) -> Floats:
    """A saliency (Cout, Cin, kh, kw) under which the fixed pattern is what is chosen."""
    rows, columns = pattern.block_rows(layer.shape), pattern.block_columns(layer.shape)
    blocks = 1 - places(rows, columns) / columns
    matrix = np.kron(blocks, np.ones((pattern.block, pattern.block)))
    groups = np.arange(matrix.shape[0])[:, None] // pattern.vector_rows
    inside = (np.arange(matrix.shape[1])[None] - groups) % pattern.m < pattern.n
    return from_matrix((matrix * inside).astype(np.float32), layer.shape)


@contextmanager
def static_pattern() -> Iterator[None]:
    """Plans made meanwhile choose by place alone."""

    def score(layer: WeightLayer, saliency: Floats, pattern: Pattern) -> ScoredLayer:
        return score_layer(layer, by_place(layer, pattern), pattern)

    with patch.object(planner, "score_layer", score):
        yield
