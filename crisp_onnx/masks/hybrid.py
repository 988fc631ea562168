"""Choose inside one layer: N:M with V rows sharing a choice, then the best blocks of every block row.

CRISP (arXiv 2311.14272) as its text means it: block (r, c) is judged by its own score, every block row keeps the same
number of blocks, and masks are chosen from scratch, never multiplied into older ones. All matrices are padded views,
(R*B, C*B), as `padded_matrix` gives them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crisp_onnx.format.pattern import Pattern

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer]


def nm_mask(saliency: Floats, pattern: Pattern) -> Bools:
    """Keep, in every group of M columns, the N with the largest saliency summed over V rows; ties keep the lower."""
    rows, columns = saliency.shape
    shared = saliency.reshape(rows // pattern.vector_rows, pattern.vector_rows, columns // pattern.m, pattern.m).sum(1)
    best = np.argsort(-shared, axis=-1, kind="stable")[..., : pattern.n]
    chosen = np.zeros(shared.shape, bool)
    np.put_along_axis(chosen, best, True, -1)
    return np.repeat(chosen.reshape(-1, columns), pattern.vector_rows, axis=0)


def block_sums(matrix: npt.NDArray[np.generic], block: int) -> npt.NDArray[np.generic]:
    """(R*B, C*B) -> (R, C): the sum over every block."""
    rows, columns = matrix.shape
    sums: npt.NDArray[np.generic] = matrix.reshape(rows // block, block, columns // block, block).sum((1, 3))
    return sums


def kept_blocks(scores: Floats, keep: int) -> npt.NDArray[np.int32]:
    """(R, C) scores -> (R, keep) ascending block columns; ties keep the lower column."""
    return np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :keep], axis=1).astype(np.int32)


def block_mask(kept: Ints, columns: int, block: int) -> Bools:
    """(R, S) kept block columns -> (R*B, C*B) mask."""
    chosen = np.zeros((kept.shape[0], columns), bool)
    np.put_along_axis(chosen, kept.astype(np.int64), True, 1)
    return np.repeat(np.repeat(chosen, block, axis=0), block, axis=1)
