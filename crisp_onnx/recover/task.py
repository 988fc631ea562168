"""`Task`: what masks are chosen for, and choosing them from the weights and statistics of a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Budget, DenseLayer, Plan, choose
from crisp_onnx.model import WeightLayer
from crisp_onnx.saliency import Criterion

Planner = Callable[[Mapping[str, npt.NDArray[np.floating]]], Plan]
"""From saliency (Cout, Cin, kh, kw) by weight name to a plan."""


@dataclass(frozen=True)
class Task:
    """What masks are chosen for: the layers, the pattern, the budget, and who may not be pruned.

    `planner`, where given, chooses the final masks in place of `budget`.
    """

    layers: tuple[WeightLayer, ...]
    pattern: Pattern
    budget: Budget
    dense_reasons: Mapping[str, str]
    criterion: Criterion
    classes: tuple[int, ...]
    all_outputs: bool
    probabilities: bool = False
    planner: Planner | None = None

    @property
    def weights(self) -> list[str]:
        """Names of the weights that may become sparse."""
        return [layer.weight for layer in self.layers if not self.dense_reasons.get(layer.name)]


def plan_from(module: GraphModule, statistics: Mapping[str, Tensor], task: Task, budget: Budget) -> Plan:
    """Score every weight by the task's criterion and choose masks under `budget`."""
    saliency = _saliency(module, statistics, task)
    return choose(saliency, task.layers, task.pattern, budget, dense_reasons=task.dense_reasons)


def final_plan(module: GraphModule, statistics: Mapping[str, Tensor], task: Task) -> Plan:
    """The masks to end with: the planner's where the task has one, else those of its whole budget."""
    if task.planner is None:
        return plan_from(module, statistics, task, task.budget)
    return task.planner(_saliency(module, statistics, task))


def _saliency(module: GraphModule, statistics: Mapping[str, Tensor], task: Task) -> dict[str, npt.NDArray[np.floating]]:
    parameters = dict(module.named_parameters())
    saliency: dict[str, npt.NDArray[np.floating]] = {}
    for layer in task.layers:
        if not task.dense_reasons.get(layer.name):
            scored = task.criterion.score(parameters[layer.weight].detach(), statistics[layer.weight])
            saliency[layer.weight] = layer.matrix(scored.float().cpu().numpy())
    return saliency


def towards(task: Task, plan: Plan) -> Task:
    """An ordinary task on the way to `plan`, which must have sparse layers: its sparsity, its dense layers dense."""
    dense = {decision.layer.name: decision.reason for decision in plan.layers if isinstance(decision, DenseLayer)}
    kept = min(1 - plan.sparsity, task.pattern.density)
    return replace(task, dense_reasons=dense, budget=Budget(kept_weights=kept), planner=None)


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


def loosest(task: Task) -> float:
    """Share of the model's MACs left when N:M alone is applied."""
    total = sum(layer.macs for layer in task.layers)
    sparse = sum(layer.macs for layer in task.layers if not task.dense_reasons.get(layer.name))
    return (total - sparse * (1 - task.pattern.density)) / total if total else 1.0
