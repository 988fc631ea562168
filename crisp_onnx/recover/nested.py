"""Mode `nested`: one training for several budgets, each batch under the masks of one that is drawn (LCS).

The weights are shared. In the end each budget gets BatchNorm statistics of its own (Learning compressible subspaces,
the point variant, arXiv 2110.04252).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.recover.features import block_ends
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import mask_gradients, masks_of, put_masks, saliency_of
from crisp_onnx.recover.recovered import Level, Recovered, Refit
from crisp_onnx.recover.start import masked_start, trained_tensors
from crisp_onnx.recover.state import copied
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training


class Nested(Hooks):
    """Puts the masks of a drawn plan into the module in front of each step. The draw follows from seed and step."""

    def __init__(self, module: GraphModule, plans: Sequence[Plan], task: Task, seed: int) -> None:
        self.module, self.seed = module, seed
        put_masks(module, Plan(), task.weights)  # a layer that only some plans have sparse needs one too
        self.masks = [masks_of(module, plan, task.weights) for plan in plans]

    def before_step(self, step: int) -> None:
        self.module.set_masks(self.masks[self.drawn(step)])

    def drawn(self, step: int) -> int:
        """The number of the plan that a step trains."""
        return int(np.random.default_rng((self.seed, step)).integers(len(self.masks)))

    def after_backward(self, step: int, again: Again) -> None:
        mask_gradients(self.module)


def recover(
    module: GraphModule,
    images: Images,
    statistics: Mapping[str, Tensor],
    task: Task,
    training: Training,
    refit: Refit,
    keeper: Keeper,
) -> Recovered:
    """See `Recover`. `task.levels` are the budgets, the one that keeps most first; the re-fit is under that one."""
    teacher = copy.deepcopy(module)
    saliency = saliency_of(module, statistics, task)
    plans = [planner.plan(saliency) for planner in task.levels]
    _, fits = masked_start(module, statistics, replace(task, planner=task.levels[0]), refit, keeper)
    hooks = Nested(module, plans, task, training.seed)
    loop = Loop(module, images, task, training, hooks, teacher=teacher, features=block_ends(module), keeper=keeper)
    loop.run()
    levels = []
    for plan, masks in zip(plans, hooks.masks, strict=True):
        module.set_masks(masks)
        loop.finish()
        levels.append(Level(plan, copied(trained_tensors(module))))
    return Recovered(plans[-1], fits, loop.notes, tuple(levels))
