"""`Task`: what masks are chosen for, and choosing them from the weights and statistics of a torch module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.masks import Plan, Planner, Saliency
from crisp_onnx.saliency import Criterion


@dataclass(frozen=True)
class Task:
    """What masks are chosen for: the planner, the criterion it is fed with, and the outputs that matter."""

    planner: Planner
    criterion: Criterion
    classes: tuple[int, ...]
    all_outputs: bool
    probabilities: bool = False

    @property
    def weights(self) -> list[str]:
        """Names of the weights that may become sparse."""
        return [layer.weight for layer in self.planner.candidates.free]


def saliency_of(module: GraphModule, statistics: Mapping[str, Tensor], task: Task) -> Saliency:
    """The criterion's score of every weight that may become sparse, from the module's weights."""
    parameters = dict(module.named_parameters())
    scored = {}
    for layer in task.planner.candidates.free:
        score = task.criterion.score(parameters[layer.weight].detach(), statistics[layer.weight])
        scored[layer.weight] = layer.matrix(score.float().cpu().numpy())
    return scored


def put_masks(module: GraphModule, plan: Plan, weights: Sequence[str] = ()) -> None:
    """Set the plan's masks in the module, in the layout of the file; masks of ones for other `weights`, if named.

    A weight that is masked in one plan and dense in the next needs those: the module keeps the masks it has.
    """
    parameters = dict(module.named_parameters())
    masks = {name: torch.ones(parameters[name].shape, dtype=torch.bool) for name in weights}
    for sparse in plan.sparse():
        like = np.empty(tuple(parameters[sparse.layer.weight].shape), bool)
        masks[sparse.layer.weight] = torch.from_numpy(sparse.layer.stored(sparse.mask, like))
    module.set_masks(masks)
