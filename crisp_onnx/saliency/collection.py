"""Collect what a criterion needs to know about every weight: sums, class by class, in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.model import Model, WeightLayer
from crisp_onnx.progress import bar
from crisp_onnx.saliency.criteria import OF_INPUTS, Criterion
from crisp_onnx.saliency.gradients import gradient_sums
from crisp_onnx.saliency.inputs import input_shape, input_sums
from crisp_onnx.saliency.sums import Sums, merged
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
    """The criterion's statistic by weight name, each in a shape that goes with the stored weight.

    Every batch holds images of one class and its loss is over all outputs, so that what a class adds does not depend on
    the other classes: sums of all classes can be kept (`Bank`), and any list of classes takes its own.
    """
    parameters = dict(module.named_parameters())
    names = [layer.weight for layer in layers]
    if criterion.from_images:
        with bar("saliency", len(images)) as advance:
            return statistic_of(
                criterion,
                merged(
                    sums_of(criterion, module, model, layers, part, task, batch_size=batch_size, advance=advance)
                    for part in by_class(images)
                ),
            )
    generator = torch.Generator().manual_seed(seed)
    if criterion.needs == "uniform":
        return {
            name: torch.rand(parameters[name].shape, generator=generator).to(parameters[name].device) for name in names
        }
    return {name: torch.zeros((), device=parameters[name].device) for name in names}


def by_class(images: Images) -> Iterator[Images]:
    """The images of each class, ascending; all at once where they have no labels."""
    if images.labels is None:
        yield images
        return
    for label in np.unique(images.labels):
        yield images.subset(np.flatnonzero(images.labels == label))


def sums_of(
    criterion: Criterion,
    module: GraphModule,
    model: Model,
    layers: Sequence[WeightLayer],
    images: Images,
    task: Classification,
    *,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda images: None,
) -> Sums:
    """What the criterion adds up over images of one class."""
    if criterion.needs in OF_INPUTS:
        return input_sums(
            criterion.needs, module, layers, model.graph(), images, batch_size=batch_size, advance=advance
        )
    names = [layer.weight for layer in layers]
    sums = gradient_sums(module, names, images, task, batch_size=batch_size, advance=advance)
    return sums.absolute if criterion.needs == "gradient_abs" else sums.square


def shape_of(criterion: Criterion, layer: WeightLayer) -> tuple[int, ...]:
    """The shape of what the criterion adds up for a layer: that of the stored weight, or one that goes with it."""
    if criterion.needs in OF_INPUTS:
        return input_shape(criterion.needs, layer)
    if layer.op == "Conv":
        return layer.shape
    return (layer.shape[1], layer.shape[0]) if layer.transposed else layer.shape[:2]


def statistic_of(criterion: Criterion, sums: Sums) -> dict[str, Tensor]:
    """The criterion's statistic from its sums over all images."""
    if criterion.needs == "input_norm":
        return {name: total.sqrt() for name, total in sums.totals.items()}
    return sums.means()
