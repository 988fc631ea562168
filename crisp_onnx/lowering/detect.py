"""Find the pattern of zeros in a stored weight: blocks, n:m along K, or loose zeros."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crisp_onnx.lowering.layer_sparsity import LayerSparsity

BLOCK_SIDES = (64, 32, 16, 8)
# The sparsest first, and of equals the strictest: 1:2 weights are 2:4 weights too.
NM_PATTERNS = ((1, 16), (1, 8), (2, 16), (3, 16), (1, 4), (2, 8), (4, 16), (3, 8), (1, 2), (2, 4), (4, 8), (3, 4))
DENSE_FROM = 0.98  # nonzeros; trained weights hold a few zeros by chance


def detect(weight: npt.NDArray[np.generic]) -> LayerSparsity:
    """The pattern of a weight (Cout, Cin/g, kh, kw), read with the input channel fastest.

    Blocks are of the side that drops the most while every block row keeps the same number, the largest of equals; n:m
    is the sparsest pattern that every group satisfies, of groups that fit into a row.
    """
    mask = np.ascontiguousarray(np.moveaxis(weight != 0, 1, -1)).reshape(weight.shape[0], -1)
    density = float(mask.mean()) if mask.size else 1.0
    if density >= DENSE_FROM:
        return LayerSparsity()
    side, kept, least = 0, 0, 1.0
    for tried in BLOCK_SIDES:
        counts, blocks = _kept_blocks(mask, tried)
        if counts.min() == counts.max() and counts[0] / blocks < least:
            side, kept, least = tried, int(counts[0]), counts[0] / blocks
    fitting = (nm for nm in NM_PATTERNS if nm[1] <= mask.shape[1])
    nm = next((nm for nm in fitting if _satisfies(mask, *nm)), (0, 0))
    if not nm[1] and not side:
        return LayerSparsity(density=density)
    return LayerSparsity(nm_keep=nm[0], nm_group=nm[1], block_rows=side, block_cols=side, kept_blocks=kept)


def _kept_blocks(mask: npt.NDArray[np.bool_], side: int) -> tuple[npt.NDArray[np.intp], int]:
    """(blocks with a nonzero in every block row, blocks in a row)."""
    padded = _padded(mask, side, side)
    grid = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side).any(axis=(1, 3))
    return grid.sum(axis=1), grid.shape[1]


def _satisfies(mask: npt.NDArray[np.bool_], keep: int, group: int) -> bool:
    padded = _padded(mask, 1, group)
    return bool(padded.reshape(padded.shape[0], -1, group).sum(axis=2).max() <= keep)


def _padded(mask: npt.NDArray[np.bool_], rows: int, cols: int) -> npt.NDArray[np.bool_]:
    return np.pad(mask, ((0, -mask.shape[0] % rows), (0, -mask.shape[1] % cols)))
