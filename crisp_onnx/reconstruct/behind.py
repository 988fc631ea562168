"""What stands behind a layer: the bias or BatchNorm that its outputs go through, and the branch added to them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, Node
from crisp_onnx.reconstruct.evidence import Spread

SMALLEST = 1e-12
LARGEST_RATIO = 1e4
LEAST_SCALE = 0.01
"""Of the middle one: below, a channel is as good as dead, and what it would have to make up for is left alone."""


@dataclass(frozen=True)
class Behind:
    """`norm`: a BatchNorm that belongs to the layer alone. `bias`: where there is none, the parameter that shifts its
    outputs. `addend`: the tensor that is added to the result and known before the layer runs.
    """

    norm: Node | None
    bias: str | None
    addend: str | None

    @property
    def shifts(self) -> bool:
        """Whether a change of the outputs' means can be taken back."""
        return self.norm is not None or self.bias is not None


def behind(module: GraphModule, layer: Node, outputs: int, unfinished: Container[str]) -> Behind:
    """What a layer of so many outputs goes through. `unfinished`: names of the layers that are still to change."""
    tensor = layer.outputs[0]
    norm, bias = _own_norm(module, tensor), None
    if norm is not None:
        tensor = norm.outputs[0]
    else:
        bias, tensor = _bias(module, layer, outputs)
    return Behind(norm, bias, _addend(module, tensor, unfinished))


def norm_of_statistics(module: GraphModule, node: Node) -> bool:
    """Whether that is a BatchNorm with statistics of its own."""
    if node.op != "BatchNormalization" or node.integer("training_mode", 0):
        return False
    return all(name in module.statistics and len(_readers(module, name)) == 1 for name in node.inputs[3:5])


def scale_of(module: GraphModule, norm: Node) -> Tensor:
    """(channels,) in float64: what the BatchNorm multiplies by, kept away from zero."""
    parameters = dict(module.named_parameters())
    variance = module.get_statistic(norm.inputs[4]).double()
    scale = parameters[norm.inputs[1]].detach().double() / (variance + norm.number("epsilon", 1e-5)).sqrt()
    least = LEAST_SCALE * scale.abs().median().clamp_min(SMALLEST)
    return torch.where(scale < 0, -1.0, 1.0) * scale.abs().clamp_min(least)


def settle(module: GraphModule, norm: Node, given: Spread, wanted: Spread) -> None:
    """Let a BatchNorm answer to what it is `given` now as it did to what it should be given, the `wanted`.

    The statistics of the given become its own; its scale and bias take up the difference, that of the spread too: a fit
    narrows what it cannot explain, and what follows expects the whole. So its answers stay in training mode, where it
    takes the statistics of a batch.
    """
    parameters = dict(module.named_parameters())
    scale, bias = (parameters[name] for name in norm.inputs[1:3])
    mean, variance = (module.get_statistic(name) for name in norm.inputs[3:5])
    epsilon = norm.number("epsilon", 1e-5)
    with torch.no_grad():
        factor = scale.double() / (variance.double() + epsilon).sqrt()
        bias.copy_(bias.double() + factor * (wanted.mean - mean.double()))
        ratio = ((wanted.variance + SMALLEST) / (given.variance + SMALLEST)).clamp(1 / LARGEST_RATIO, LARGEST_RATIO)
        scale.copy_(factor * (given.variance + epsilon).sqrt() * ratio.sqrt())
        mean.copy_(given.mean)
        variance.copy_(given.variance)


def match(module: GraphModule, norm: Node, student: Spread, teacher: Spread) -> None:
    """Set the statistics of `norm` so that it gives channels of the mean and spread that the dense network's gives.

    `student`, `teacher`: of what it is given in either network. Until now both have the dense network's statistics.
    Channels that have become constant keep their spread: it cannot be matched.
    """
    mean, variance = (module.get_statistic(name) for name in norm.inputs[3:5])
    epsilon = norm.number("epsilon", 1e-5)
    ratio = (student.variance + SMALLEST) / (teacher.variance + SMALLEST)
    ratio = torch.where(_constant(student), 1.0, ratio.clamp(1 / LARGEST_RATIO, LARGEST_RATIO))
    with torch.no_grad():
        mean.copy_(student.mean - (teacher.mean - mean) * ratio.sqrt())
        variance.copy_(((variance + epsilon) * ratio - epsilon).clamp_min(0))


def _constant(given: Spread) -> Tensor:
    """(channels,): whether all values are equal, but for how sums of squares round."""
    return given.variance <= SMALLEST * (1 + given.mean.square())


def _own_norm(module: GraphModule, tensor: str) -> Node | None:
    """The BatchNorm that is the only reader of `tensor` and of whose numbers nothing else makes use, or None."""
    found = _readers(module, tensor)
    if len(found) != 1 or found[0].inputs[0] != tensor or not norm_of_statistics(module, found[0]):
        return None
    parameters = dict(module.named_parameters())
    own = all(name in parameters and len(_readers(module, name)) == 1 for name in found[0].inputs[1:3])
    return found[0] if own else None


def _bias(module: GraphModule, layer: Node, outputs: int) -> tuple[str | None, str]:
    """The parameter that shifts a layer's outputs, one number each, and nothing else; and the shifted tensor.

    It is the layer's own bias, or what an Add puts on the outputs of a matrix product.
    """
    parameters, tensor = dict(module.named_parameters()), layer.outputs[0]

    def shifts(name: str) -> bool:
        stored = parameters.get(name)
        one_each = stored is not None and stored.numel() == outputs == stored.shape[-1]
        return one_each and len(_readers(module, name)) == 1

    if len(layer.inputs) > 2 and shifts(layer.inputs[2]):
        return layer.inputs[2], tensor
    readers = _readers(module, tensor)
    if layer.op != "Conv" and len(readers) == 1 and readers[0].op == "Add":
        found = [name for name in readers[0].inputs if name != tensor and shifts(name)]
        if found:
            return found[0], readers[0].outputs[0]
    return None, tensor


def _addend(module: GraphModule, tensor: str, unfinished: Container[str]) -> str | None:
    readers = _readers(module, tensor)
    if len(readers) != 1 or readers[0].op != "Add":
        return None
    others = [name for name in readers[0].inputs if name != tensor]
    makers = {name: node for node in module.nodes for name in node.outputs if name}
    if len(others) != 1 or others[0] not in {*makers, *module.input_names}:
        return None
    front, seen = [others[0]], set(others)
    while front:
        maker = makers.get(front.pop())
        if maker is None:
            continue
        if maker.name in unfinished:
            return None
        fresh = set(maker.inputs) - seen
        seen |= fresh
        front += fresh
    return others[0]


def _readers(module: GraphModule, tensor: str) -> list[Node]:
    """The nodes that read `tensor`; none where it is an output of the graph, which is read outside."""
    return [] if tensor in module.output_names else [node for node in module.nodes if tensor in node.inputs]
