"""The model on both sides of the bridge: crossing over, and over again with another form of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import torch

from crisp_onnx.api.acceptance import Accepted
from crisp_onnx.bridge import GraphModule, prepared_for, to_torch, usable_batch
from crisp_onnx.data import Images
from crisp_onnx.model import Model
from crisp_onnx.passes import InsertBatchNorm, run_passes
from crisp_onnx.recover import output_moments
from crisp_onnx.task import CLASSIFICATION, SEGMENTATION, Head, layers_behind

BATCH_OF_LARGE_IMAGES, LARGE_PIXELS = 32, 128 * 128
# Maps in full size in every layer, so the fewer the larger; two at least, for BatchNorm.
MOST_OF_MAPS, PIXELS_OF_MAPS = 16, 1 << 20
BATCHES: Mapping[str, Callable[[int], int]] = MappingProxyType(
    {
        CLASSIFICATION: lambda pixels: BATCH_OF_LARGE_IMAGES if pixels > LARGE_PIXELS else 64,
        SEGMENTATION: lambda pixels: max(2, min(MOST_OF_MAPS, PIXELS_OF_MAPS // pixels)),
    }
)
"""Images of so many pixels that are learnt from at once, by task."""


@dataclass(frozen=True)
class Crossed:
    """The model on both sides of the bridge, and the images it takes at once."""

    model: Model
    module: GraphModule
    batch: int


def cross(accepted: Accepted, device: torch.device) -> Crossed:
    """Put the module on the device, and find out how many images it takes at once."""
    prepared, module = accepted.prepared, prepared_for(device, accepted.module)
    wanted = BATCHES[prepared.task](prod(prepared.size))
    batch = usable_batch(module, prepared.model.input, wanted, fixed=prepared.batch, size=prepared.size)
    return Crossed(prepared.model, module, batch)


def anew(crossed: Crossed, model: Model, head: Head) -> Crossed:
    """Cross over with another form of the model, which takes the same images."""
    module = prepared_for(next(crossed.module.parameters()).device, to_torch(model, head.trained))
    module.takes, module.processes = crossed.module.takes, crossed.module.processes
    return Crossed(model, module, crossed.batch)


def with_batch_norm(crossed: Crossed, images: Images, head: Head) -> Crossed:
    """The same function with an identity BatchNorm behind every convolution that is trained, but the classifier."""
    graph = crossed.model.graph()
    trained = layers_behind(graph, head.trained) - set(head.classifier)
    convolutions = [node for node in graph.nodes if node.op == "Conv" and node.name in trained]
    if not convolutions:
        return crossed
    outputs = {node.name: node.outputs[0].name for node in convolutions}
    moments = output_moments(crossed.module, outputs, images, batch_size=min(crossed.batch, 16))
    run_passes((InsertBatchNorm(moments),), graph)
    return anew(crossed, crossed.model.with_graph(graph), head)
