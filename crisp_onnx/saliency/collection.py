"""Collect what a criterion needs to know about every weight, in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.model import Model, WeightLayer
from crisp_onnx.saliency.criteria import Criterion
from crisp_onnx.saliency.gradients import gradient_sums
from crisp_onnx.saliency.inputs import input_squares
from crisp_onnx.task import Classification


def collect(
    criterion: Criterion,
    module: GraphModule,
    model: Model,
    layers: Sequence[WeightLayer],
    *,
    images: Images,
    task: Classification,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The criterion's statistic by weight name, each in a shape that goes with the stored weight."""
    parameters = dict(module.named_parameters())
    names = [layer.weight for layer in layers]
    if criterion.from_gradients:
        sums = gradient_sums(module, names, images, task, batch_size=batch_size)
        return (sums.absolute if criterion.needs == "gradient_abs" else sums.square).means()
    if criterion.needs == "input_norm":
        squares = input_squares(module, layers, model.graph(), images, batch_size=batch_size)
        return {name: total.sqrt() for name, total in squares.totals.items()}
    generator = torch.Generator().manual_seed(seed)
    if criterion.needs == "uniform":
        return {
            name: torch.rand(parameters[name].shape, generator=generator).to(parameters[name].device) for name in names
        }
    return {name: torch.zeros((), device=parameters[name].device) for name in names}
