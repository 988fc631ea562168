"""Recovery of the small classifier in a test: its task, its statistics, and a whole run."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.data import Images
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates, Plan, Threshold, reason_to_stay_dense
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.reconstruct import METHODS, Refitted
from crisp_onnx.recover import MODES, Keeper, NoKeeper, Refit, Task, Training
from crisp_onnx.saliency import collect, criterion_named
from crisp_onnx.task import Classification

CLASSES = (0, 2, 5)
ANSWERS = Classification(tuple(range(6)), CLASSES, "logits", "logits")


def make_task(model: Model, saliency: str = "crisp", kept: float = 0.15) -> Task:
    layers = weight_layers(model, tensor_shapes(model))
    reasons = {layer.name: reason_to_stay_dense(layer, Pattern(), left={"fc": "classifier"}) for layer in layers}
    planner = Threshold(Candidates(layers, Pattern(), reasons), kept)
    return Task(planner, criterion_named(saliency), ANSWERS, all_outputs=True)


def started(model: Model, images: Images, task: Task) -> tuple[GraphModule, dict[str, Tensor]]:
    """The untrained module, and what its task's criterion needs."""
    torch.manual_seed(0)
    module = to_torch(model)
    free = task.planner.candidates.free
    return module, collect(task.criterion, module, model, free, images=images, task=ANSWERS)


def leave(module: GraphModule, plan: Plan) -> Refitted:
    """Re-fits nothing."""
    return Refitted(plan)


def refit_on(images: Images) -> Refit:
    """Least squares on some images, judged by the same ones."""
    return lambda module, plan: METHODS["least-squares"](module, plan, images, images, choice="alps", batch_size=16)


def run(
    model: Model,
    images: Images,
    task: Task,
    training: Training,
    *,
    recovery: str = "ramp",
    refit: Refit = leave,
    keeper: Keeper | None = None,
) -> tuple[GraphModule, Plan]:
    """A whole recovery; without epochs, masks alone."""
    module, statistics = started(model, images, task)
    mode = MODES[recovery if training.epochs else "none"]
    return module, mode.recover(module, images, statistics, task, training, refit, keeper or NoKeeper()).plan
