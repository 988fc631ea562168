"""How much of the loss each layer's saliency stands for: the utilisation ratio of network adjustment.

Network adjustment (arXiv 2004.02767) takes the same amount of work from one layer at a time and asks by how much the
loss of unseen images rises. Divided by the saliency that went with it, the rise says what a unit of that layer's
saliency is worth, and layers compare.
"""

from __future__ import annotations

from math import exp, fsum, log

import numpy as np

from crisp_onnx.masks import Saliency
from crisp_onnx.masks.scored import ScoredLayer
from crisp_onnx.progress import bar
from crisp_onnx.recover.trial import Trial

SHARE, MOST = 0.25, 0.5
"""Of the mean layer's weights that each layer loses in turn, and of its own blocks that it loses at most."""
LEAST = 0.05
"""Of the median rise: held-out images are few, and a rise below this is noise."""


def utilisation(trial: Trial, saliency: Saliency) -> dict[str, float]:
    """By weight name, the factor of each layer's saliency; their geometric mean is 1."""
    candidates = trial.task.planner.candidates
    scored = candidates.scored(saliency)
    amount = SHARE * fsum(float(item.columns.cost.sum()) for item in scored) / len(scored)
    whole = trial.loss(candidates.plan([item.keep(len(item.columns.cost)) for item in scored]))
    rises, gone = [], []
    with bar("allocation", len(scored)) as advance:
        for item in scored:
            count = _columns_of(item, amount)
            others = [each.keep(len(each.columns.cost) - (count if each is item else 0)) for each in scored]
            # For as much saliency as a whole `amount` would take: wide rank columns free more or less than that.
            share = amount / float(item.columns.cost[:count].sum())
            rises.append((trial.loss(candidates.plan(others)) - whole) * share)
            gone.append(float(item.columns.saliency[:count].sum()) * share)
            advance(1)
    least = LEAST * max(float(np.median(np.abs(rises))), 1e-12)
    ratios = [max(rise, least) / max(lost, 1e-30) for rise, lost in zip(rises, gone, strict=True)]
    middle = exp(fsum(map(log, ratios)) / len(ratios))
    return {item.layer.weight: ratio / middle for item, ratio in zip(scored, ratios, strict=True)}


def _columns_of(item: ScoredLayer, amount: float) -> int:
    """The rank columns whose weights come nearest to the amount: one at least, and half of the layer's at most."""
    freed = np.cumsum(item.columns.cost)
    most = max(1, int(MOST * len(freed)))
    return min(most, 1 + int(np.argmin(np.abs(freed - amount))))
