"""`Task`: what masks are chosen for, and choosing them from the weights and statistics of a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.masks import Budget, Pattern, Plan, choose
from crisp_onnx.model import WeightLayer
from crisp_onnx.saliency import Criterion


@dataclass(frozen=True)
class Task:
    """What masks are chosen for: the layers, the pattern, the budget, and who may not be pruned."""

    layers: tuple[WeightLayer, ...]
    pattern: Pattern
    budget: Budget
    dense_reasons: Mapping[str, str]
    criterion: Criterion
    classes: tuple[int, ...]
    all_outputs: bool
    probabilities: bool = False

    @property
    def weights(self) -> list[str]:
        """Names of the weights that may become sparse."""
        return [layer.weight for layer in self.layers if not self.dense_reasons.get(layer.name)]


def plan_from(module: GraphModule, statistics: Mapping[str, Tensor], task: Task, budget: Budget) -> Plan:
    """Score every weight by the task's criterion and choose masks under `budget`."""
    parameters = dict(module.named_parameters())
    saliency: dict[str, npt.NDArray[np.floating]] = {}
    for layer in task.layers:
        if not task.dense_reasons.get(layer.name):
            scored = task.criterion.score(parameters[layer.weight].detach(), statistics[layer.weight])
            saliency[layer.weight] = layer.matrix(scored.float().cpu().numpy())
    return choose(saliency, task.layers, task.pattern, budget, dense_reasons=task.dense_reasons)


def put_masks(module: GraphModule, plan: Plan) -> None:
    """Set the plan's masks in the module, in the layout of the file."""
    parameters = dict(module.named_parameters())
    masks = {}
    for sparse in plan.sparse():
        like = np.empty(tuple(parameters[sparse.layer.weight].shape), bool)
        masks[sparse.layer.weight] = torch.from_numpy(sparse.layer.stored(sparse.mask, like))
    module.set_masks(masks)


def loosest(task: Task) -> float:
    """Share of the model's MACs left when N:M alone is applied."""
    total = sum(layer.macs for layer in task.layers)
    sparse = sum(layer.macs for layer in task.layers if not task.dense_reasons.get(layer.name))
    return (total - sparse * (1 - task.pattern.density)) / total if total else 1.0
