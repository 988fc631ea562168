"""The masks of a pattern that keep most of a matrix, with as many weights as a planned layer keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from crisp_onnx.format.matrix import from_matrix
from crisp_onnx.masks.hybrid import Bools, Floats, Ints, block_mask, block_sums, kept_blocks, nm_mask
from crisp_onnx.masks.plan import SparseLayer


def nearest(worth: Floats, planned: SparseLayer) -> tuple[Bools, Ints]:
    """The mask (R*B, C*B) that keeps most of `worth` (R*B, C*B), and its blocks (R, S).

    Of the squares of a matrix it is the nearest matrix under the pattern: whichever blocks are kept, the best of every
    group of M are the best inside them.
    """
    chosen = nm_mask(worth, planned.pattern)
    blocks = best_blocks(block_sums(np.where(chosen, worth, 0), planned.pattern.block).astype(np.float64), planned)
    return chosen & block_mask(blocks, worth.shape[1] // planned.pattern.block, planned.pattern.block), blocks


def best_blocks(scores: npt.NDArray[np.float64], planned: SparseLayer) -> npt.NDArray[np.int32]:
    """(R, C) scores -> (R, S): the best blocks of every block row, as many as are `planned`.

    A last block that is partly padding holds fewer weights, so rows keep it where they were planned to.
    """
    _, cin, kh, kw = planned.layer.shape
    if cin * kh * kw % planned.pattern.block:
        last = scores.shape[1] - 1
        scores = scores.copy()
        scores[:, last] = np.where((planned.kept == last).any(1), np.inf, -np.inf)
    return kept_blocks(scores, planned.kept.shape[1])


def with_mask(planned: SparseLayer, mask: Bools, blocks: Ints) -> SparseLayer:
    """The layer under another mask (R*B, C*B) of these blocks (R, S)."""
    return replace(planned, kept=blocks.astype(np.int32), mask=from_matrix(mask, planned.layer.shape))
