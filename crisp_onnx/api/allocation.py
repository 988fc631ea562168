"""The table of allocations: what is measured so that layers share the budget; kept, so that a resumed run has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Curve
from crisp_onnx.reconstruct import CURVES, CURVES_BEFORE_TRAINING, error_curves
from crisp_onnx.recover import Keeper, State, Task, Trial, saliency_of, searched, utilisation
from crisp_onnx.saliency import output_squares

MEASURED, FACTORS = "curves", "factors"
IMAGES, IMAGES_IF_LARGE, LARGE_PIXELS = 256, 64, 128 * 128
"""Whose gradients say what the loss minds, a number for each output of a layer, and whose answers judge a trial."""


@dataclass(frozen=True)
class Ground:
    """What allocations measure on: the dense `module`, its criterion's `statistics`, and images.

    `judged`: images that errors and losses are measured on. `trains`: training follows.
    """

    module: GraphModule
    statistics: Mapping[str, Tensor]
    images: Images
    judged: Images
    batch_size: int
    seed: int
    trains: bool

    @property
    def most(self) -> int:
        """Images that are enough where a number or two are asked for."""
        return IMAGES if prod(self.images.preprocess.size) <= LARGE_PIXELS else IMAGES_IF_LARGE

    def trial(self, task: Task) -> Trial:
        """Of plans for the task."""
        return Trial(
            self.module, self.images, self.judged, task, batch_size=self.batch_size, most=self.most, seed=self.seed
        )


class Allocate(Protocol):
    """An allocation's function."""

    def __call__(self, task: Task, ground: Ground, keeper: Keeper) -> Task:
        """The task whose planners share the budget by what was measured."""


def by_saliency(task: Task, ground: Ground, keeper: Keeper) -> Task:
    """Nothing is measured."""
    return task


def by_error(task: Task, ground: Ground, keeper: Keeper) -> Task:
    """By what each layer would lose at several densities after its fit."""
    found = keeper.get(MEASURED)
    if found is not None:
        values = {name: tensor.numpy() for name, tensor in found.tensors.items()}
        return task.measured({name: Curve(value[:-1], float(value[-1])) for name, value in values.items()})
    candidates, size, seed = task.planner.candidates, ground.batch_size, ground.seed
    some = ground.images.subset(np.sort(np.random.default_rng(seed).permutation(len(ground.images))[: ground.most]))
    minded = output_squares(ground.module, candidates.free, some, task.answers, batch_size=size)
    look = CURVES_BEFORE_TRAINING if ground.trains else CURVES
    curves = error_curves(
        ground.module, candidates, minded, ground.images, ground.judged, batch_size=size, look=look, seed=seed
    )
    tensors = {name: torch.tensor(np.append(curve.gains, curve.rest)) for name, curve in curves.items()}
    keeper.put(MEASURED, State(tensors, {}))
    return task.measured(curves)


def by_sensitivity(task: Task, ground: Ground, keeper: Keeper) -> Task:
    """By saliency, weighed by what the loss rises where each layer alone loses some of it."""
    found = keeper.get(FACTORS)
    if found is not None:
        return task.weighed(found.values)
    return _kept(task, utilisation(ground.trial(task), saliency_of(ground.module, ground.statistics, task)), keeper)


def by_search(task: Task, ground: Ground, keeper: Keeper) -> Task:
    """By saliency, weighed as the best of some trials weighs it."""
    found = keeper.get(FACTORS)
    if found is not None:
        return task.weighed(found.values)
    saliency = saliency_of(ground.module, ground.statistics, task)
    return _kept(task, searched(ground.trial(task), saliency, seed=ground.seed), keeper)


def _kept(task: Task, factors: Mapping[str, float], keeper: Keeper) -> Task:
    keeper.put(FACTORS, State({}, dict(factors)))
    return task.weighed(factors)


ALLOCATIONS: Mapping[str, Allocate] = MappingProxyType(
    {"error": by_error, "saliency": by_saliency, "sensitivity": by_sensitivity, "search": by_search}
)
