"""CRISP's public code as an ablation: blocks are judged by the squared weight, and each by another block's score.

Its `main.py` multiplies two masked copies of W where block scores are summed, which squares the weight, and lists the
scores column by column of blocks but reads them row by row, so that block (r, c) of a grid of R x C goes by the score
of block (n mod R, n div R), n = r C + c. N:M goes by |W| times the mean gradient, as in its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.api.prepare import prepare
from crisp_onnx.format import Pattern
from crisp_onnx.format.matrix import padded_matrix
from crisp_onnx.masks import planner
from crisp_onnx.masks.allocation import rank_columns
from crisp_onnx.masks.hybrid import block_sums
from crisp_onnx.masks.scored import ScoredLayer, score_layer
from crisp_onnx.model import WeightLayer

Floats = npt.NDArray[np.floating]


def scrambled(scores: Floats) -> Floats:
    """Scores (R, C) listed column by column and read row by row."""
    return scores.T.reshape(scores.shape)


@contextmanager
def blocks_as_in_public_code(model: Path) -> Iterator[None]:
    """Plans made meanwhile score blocks so; channels stay in the order of the file."""
    tensors = prepare(model).model.graph().tensors()
    weights = {name: tensor.values for name, tensor in tensors.items() if isinstance(tensor, gs.Constant)}

    def score(layer: WeightLayer, saliency: Floats, pattern: Pattern) -> ScoredLayer:
        right = score_layer(layer, saliency, pattern)
        magnitude = np.abs(layer.matrix(np.asarray(weights[layer.weight])))
        squared = padded_matrix(saliency * magnitude, pattern.block) * right.nm
        real = padded_matrix(np.ones(layer.shape, bool), pattern.block)
        counts = block_sums(right.nm & real, pattern.block).astype(np.float64)
        scores = scrambled(block_sums(squared, pattern.block).astype(np.float64))
        return replace(right, scores=scores, columns=rank_columns(scores, counts), whole=float(squared.sum()))

    with patch.object(planner, "score_layer", score):
        yield
