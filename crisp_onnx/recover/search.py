"""Learn how layers share the budget by trying plans: a distribution over the layers that moves to what loses least.

After RL-Pruner (arXiv 2411.06463): each trial draws a factor for the saliency of every layer, the planner makes a plan
of the whole budget from it, and the loss of held-out images under its masks is the reward. A buffer keeps the best
trials, which the mean of the distribution moves to; now and then a trial starts from one of them. The plan without any
factor is the first trial, so that the search never ends with a worse one by its own measure.
"""

from __future__ import annotations

from math import exp

import numpy as np
import numpy.typing as npt

from crisp_onnx.masks import Saliency
from crisp_onnx.progress import bar
from crisp_onnx.recover.trial import Trial

TRIALS = 32
BUFFER, STEP, SPREAD, LAST_SPREAD = 5, 0.5, 0.5, 0.15
FROM_BUFFER = 0.3
"""The chance that a trial starts from one of the best, and not from the mean."""

Vector = npt.NDArray[np.float64]


def searched(trial: Trial, saliency: Saliency, *, seed: int, trials: int = TRIALS) -> dict[str, float]:
    """By weight name, the factor of each layer's saliency under which `trial` lost least."""
    planner = trial.task.planner
    names = [layer.weight for layer in planner.candidates.free]
    random = np.random.default_rng(seed)
    mean: Vector = np.zeros(len(names))
    tried: list[tuple[float, Vector]] = []
    with bar("allocation", trials) as advance:
        for number in range(trials):
            spread = SPREAD + (LAST_SPREAD - SPREAD) * number / trials
            start = tried[random.integers(len(tried))][1] if tried and random.random() < FROM_BUFFER else mean
            drawn = start + spread * random.standard_normal(len(names)) if number else mean
            factors = _factors(names, drawn)
            weighed = {name: score * factors[name] for name, score in saliency.items()}
            tried = sorted([*tried, (trial.loss(planner.plan(weighed)), drawn)], key=lambda each: each[0])[:BUFFER]
            best: Vector = np.mean([each[1] for each in tried], 0)
            mean = mean + STEP * (best - mean)
            advance(1)
    return _factors(names, tried[0][1])


def _factors(names: list[str], logarithms: Vector) -> dict[str, float]:
    return {name: exp(value) for name, value in zip(names, logarithms, strict=True)}
