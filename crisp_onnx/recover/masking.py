"""A plan and a torch module: score the module's weights, put a plan's masks into it, save and restore the plan."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Candidates, DenseLayer, Plan, Saliency, SparseLayer
from crisp_onnx.masks.scored import score_layer
from crisp_onnx.recover.state import State
from crisp_onnx.recover.task import Task


def saliency_of(module: GraphModule, statistics: Mapping[str, Tensor], task: Task) -> Saliency:
    """The criterion's score of every weight that may become sparse, times the task's factor."""
    parameters = dict(module.named_parameters())
    scored = {}
    for layer in task.planner.candidates.free:
        score = task.criterion.score(parameters[layer.weight].detach(), statistics[layer.weight])
        scored[layer.weight] = layer.matrix(score.float().cpu().numpy()) * task.factors.get(layer.weight, 1.0)
    return scored


def put_masks(module: GraphModule, plan: Plan, weights: Sequence[str] = ()) -> None:
    """Set the plan's masks in the module; masks of ones for other `weights`, if named.

    A weight that is masked in one plan and dense in the next needs those: the module keeps the masks it has.
    """
    module.set_masks(masks_of(module, plan, weights))


def masks_of(module: GraphModule, plan: Plan, weights: Sequence[str] = ()) -> dict[str, Tensor]:
    """The plan's masks by weight name, in the layout of the file, on the module's device; ones for other `weights`."""
    parameters = dict(module.named_parameters())
    masks = {name: torch.ones_like(parameters[name], dtype=torch.bool) for name in weights}
    for sparse in plan.sparse():
        parameter = parameters[sparse.layer.weight]
        like = np.empty(tuple(parameter.shape), bool)
        masks[sparse.layer.weight] = torch.from_numpy(sparse.layer.stored(sparse.mask, like)).to(parameter.device)
    return masks


def mask_gradients(module: GraphModule) -> None:
    """Take the gradients of removed weights out of the optimiser, and of the norm that gradients are clipped to."""
    parameters = dict(module.named_parameters())
    for name, mask in module.masks.items():
        gradient = parameters[name].grad
        if gradient is not None:
            gradient.mul_(mask)


def rechosen(plan: Plan, saliency: Saliency, weights: Container[str]) -> Plan:
    """`plan` with the masks of `weights` chosen anew, as many blocks in every block row as before."""

    def again(decision: SparseLayer | DenseLayer) -> SparseLayer | DenseLayer:
        if isinstance(decision, DenseLayer) or decision.layer.weight not in weights:
            return decision
        scored = score_layer(decision.layer, saliency[decision.layer.weight], decision.pattern)
        return scored.keep(decision.kept.shape[1])

    return replace(plan, layers=tuple(map(again, plan.layers)))


def plan_state(plan: Plan) -> State:
    """A plan's masks and kept blocks by weight name, and its reasons by layer name."""
    tensors = {}
    for sparse in plan.sparse():
        tensors[f"{sparse.layer.weight}/mask"] = torch.tensor(sparse.mask)
        tensors[f"{sparse.layer.weight}/kept"] = torch.tensor(sparse.kept)
    dense = {item.layer.name: item.reason for item in plan.layers if isinstance(item, DenseLayer)}
    return State(tensors, {"dense": dense})


def plan_from(state: State, candidates: Candidates) -> Plan:
    """The plan whose state that is.

    Raises:
        CrispError: the state is of another model.
    """
    dense = state.values.get("dense", {})
    layers: list[SparseLayer | DenseLayer] = []
    for layer in candidates.layers:
        mask = state.tensors.get(f"{layer.weight}/mask")
        if layer.name in dense:
            layers.append(DenseLayer(layer, dense[layer.name]))
        elif mask is not None and tuple(mask.shape) == layer.shape:
            kept = state.tensors[f"{layer.weight}/kept"].numpy()
            layers.append(SparseLayer(layer, candidates.pattern, kept, mask.numpy()))
        else:
            raise CrispError(f"The saved state knows nothing of layer {layer.name!r}. Start the run anew.")
    return Plan(tuple(layers), candidates.macs_beside)
