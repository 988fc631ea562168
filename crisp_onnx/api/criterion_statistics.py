"""A criterion's statistic, by weight name: out of a bank, of a run that was stopped, or by passes over the images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.crossing import Crossed
from crisp_onnx.data import Images
from crisp_onnx.recover import Task, copied
from crisp_onnx.saliency import Bank, Sums, collect, statistic_of
from crisp_onnx.saliency.collection import by_class, shape_of, sums_of
from crisp_onnx.saliency.sums import merged


def statistics_for(
    bank: Bank | None, task: Task, crossed: Crossed, images: Images, seed: int, checkpoint: Checkpoint
) -> Mapping[str, Tensor]:
    """The criterion's statistic for the task's classes, by weight name: from the bank, or by passes over the images."""
    device = next(crossed.module.parameters()).device
    if bank is None:
        kept = checkpoint.get("saliency")
        if kept is not None:
            return {name: statistic.to(device) for name, statistic in kept.tensors.items()}
        found = _collected(task, crossed, images, seed)
        checkpoint.put("saliency", copied(found))
        return found
    found = statistic_of(task.criterion, bank.of_classes(task.answers.wanted, task.weights))
    return {name: statistic.to(device) for name, statistic in found.items()}


def _collected(task: Task, crossed: Crossed, images: Images, seed: int) -> Mapping[str, Tensor]:
    """The criterion's statistic by weight name. Processes share the classes, and all get the sums of the first."""
    these, criterion, layers = crossed.module.processes, task.criterion, task.planner.candidates.free
    if these.count == 1 or not criterion.from_images or images.labels is None:
        found = collect(
            criterion, crossed.module, crossed.model, layers, images=images, task=task.answers,
            batch_size=crossed.batch, seed=seed,
        )  # fmt: skip
        these.spread(found)
        return found
    parts = {int(part.labels[0]): part for part in by_class(images) if part.labels is not None}
    shapes = {layer.weight: shape_of(criterion, layer) for layer in layers}

    def compute(index: int) -> Mapping[str, Tensor]:
        return sums_of(
            criterion, crossed.module, crossed.model, layers, parts[index], task.answers, batch_size=crossed.batch
        ).totals

    shared = these.shared(tuple(parts), shapes, compute)
    sums = [Sums({name: total.cpu() for name, total in totals.items()}, len(parts[index])) for index, totals in shared]
    whole = merged(sums) if sums else Sums({name: torch.zeros(shape) for name, shape in shapes.items()}, len(images))
    these.spread(whole.totals)
    device = next(crossed.module.parameters()).device
    return {name: statistic.to(device) for name, statistic in statistic_of(criterion, whole).items()}
