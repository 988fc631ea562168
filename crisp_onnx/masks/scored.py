"""A layer's saliency seen through its pattern: what N:M keeps, what every block is worth, and what goes first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.masks.allocation import RankColumns, rank_columns
from crisp_onnx.masks.curve import Curve
from crisp_onnx.masks.hybrid import Bools, Floats, block_mask, block_sums, kept_blocks, nm_mask
from crisp_onnx.masks.plan import SparseLayer
from crisp_onnx.model import WeightLayer


@dataclass(frozen=True)
class ScoredLayer:
    """`nm` (R*B, C*B): what N:M alone keeps. `scores` (R, C): saliency of each block under it.

    `columns`: the rank columns, their cost in weights. `whole`: saliency of the dense layer. Where losses are `known`,
    both are the loss that is saved instead.
    """

    layer: WeightLayer
    pattern: Pattern
    nm: Bools
    scores: npt.NDArray[np.float64]
    columns: RankColumns
    whole: float
    known: bool = False

    def measured(self, curve: Curve) -> ScoredLayer:
        """The layer with measured losses to share the budget by."""
        columns = RankColumns(curve.gains, self.columns.cost)
        return replace(self, columns=columns, whole=float(curve.gains.sum()) + curve.rest, known=True)

    def keep(self, blocks: int) -> SparseLayer:
        """The layer with the best `blocks` of every block row."""
        kept = kept_blocks(self.scores, blocks)
        mask = self.nm & block_mask(kept, self.scores.shape[1], self.pattern.block)
        return SparseLayer(self.layer, self.pattern, kept, from_matrix(mask, self.layer.shape))


def score_layer(layer: WeightLayer, saliency: Floats, pattern: Pattern) -> ScoredLayer:
    """See the `saliency` (Cout, Cin, kh, kw) of `layer` through `pattern`.

    Raises:
        CrispError: a saliency that is not finite, or whose sum may not be.
    """
    if not saliency.max(initial=0) <= np.finfo(saliency.dtype).max / max(1, saliency.size):
        raise CrispError(
            f"The saliency of layer {layer.name!r} is not finite: the model overflows on these images. "
            "Check --preprocess, or keep the layer dense with --keep-dense."
        )
    matrix = padded_matrix(saliency, pattern.block)
    nm = nm_mask(matrix, pattern)
    real = padded_matrix(np.ones(layer.shape, bool), pattern.block)
    scores = block_sums(matrix * nm, pattern.block).astype(np.float64)
    weights = block_sums(nm & real, pattern.block).astype(np.float64)
    whole = float(np.sum(saliency, dtype=np.float64))
    return ScoredLayer(layer, pattern, nm, scores, rank_columns(scores, weights), whole)
