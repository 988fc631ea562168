"""What stands behind a layer and takes up how its outputs have changed: a stored bias, or a BatchNorm's statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, Node

SMALLEST = 1e-12
LARGEST_RATIO = 1e4


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and variance (channels,) of a tensor, in float64."""

    mean: Tensor
    variance: Tensor


def norm_behind(module: GraphModule, tensor: str) -> Node | None:
    """The BatchNorm with statistics of its own that is the only reader of `tensor`, or None."""
    found = _readers(module, tensor)
    if len(found) != 1 or found[0].op != "BatchNormalization" or found[0].inputs[0] != tensor:
        return None
    own = all(name in module.statistics for name in found[0].inputs[3:5]) and not found[0].integer("training_mode", 0)
    return found[0] if own else None


def bias_behind(module: GraphModule, layer: Node, outputs: int) -> str | None:
    """The parameter that a layer's outputs, one number each, and nothing else are shifted by, or None.

    It is the layer's own bias, or what an Add puts on the outputs of a matrix product.
    """
    parameters = dict(module.named_parameters())
    names = list(layer.inputs[2:3])
    readers = _readers(module, layer.outputs[0])
    if layer.op != "Conv" and len(readers) == 1 and readers[0].op == "Add":
        names += [name for name in readers[0].inputs if name != layer.outputs[0]]
    for name in names:
        stored = parameters.get(name)
        if stored is not None and stored.numel() == outputs == stored.shape[-1] and len(_readers(module, name)) == 1:
            return name
    return None


def match(module: GraphModule, norm: Node, student: Spread, teacher: Spread) -> None:
    """Set the statistics of `norm` so that it gives channels of the mean and spread that the dense network's gives.

    `student`, `teacher`: of what it is given in either network. Until now both have the dense network's statistics.
    """
    mean, variance = (module.get_statistic(name) for name in norm.inputs[3:5])
    epsilon = norm.number("epsilon", 1e-5)
    ratio = (student.variance + SMALLEST) / (teacher.variance + SMALLEST)
    ratio = ratio.clamp(1 / LARGEST_RATIO, LARGEST_RATIO)
    with torch.no_grad():
        mean.copy_(student.mean - (teacher.mean - mean) * ratio.sqrt())
        variance.copy_(((variance + epsilon) * ratio - epsilon).clamp_min(0))


def _readers(module: GraphModule, tensor: str) -> list[Node]:
    """The nodes that read `tensor`; none where it is an output of the graph, which is read outside."""
    return [] if tensor in module.output_names else [node for node in module.nodes if tensor in node.inputs]
