"""Where in the graph a re-fit stops: at layers whose weights it may change, and at BatchNorms behind no such layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from crisp_onnx.bridge import GraphModule, Node
from crisp_onnx.model import WeightLayer
from crisp_onnx.reconstruct.behind import norm_of_statistics


@dataclass(frozen=True, eq=False)
class Stop:
    """Node `number`: a layer, of which each `group` of rows share a support; or a BatchNorm (`layer` None)."""

    number: int
    node: Node
    layer: WeightLayer | None
    group: int = 1


def stops_of(student: GraphModule, all_layers: Sequence[WeightLayer], groups: Mapping[str, int]) -> list[Stop]:
    """All from the first node on that is masked or reads what a lens shows otherwise, in the order of the graph.

    In front of it nothing has changed. Layers that keep all their weights are re-fitted too: their inputs have changed.
    `groups`: of the masked layers by name, how many rows that follow each other share a support.
    """
    layers = {layer.name: layer for layer in all_layers}
    lensed = set(student.lenses)
    changed = (n for n, node in enumerate(student.nodes) if node.name in groups or lensed.intersection(node.inputs))
    first = next(changed, len(student.nodes))
    stops: list[Stop] = []
    brought: set[str] = set()
    for number, node in enumerate(student.nodes[first:], first):
        layer = layers.get(node.name)
        if layer is not None and (layer.name in groups or _refittable(student, node, layer)):
            stops.append(Stop(number, node, layer, groups.get(layer.name, layer.shape[0])))
            brought.add(node.outputs[0])
        elif norm_of_statistics(student, node) and node.inputs[0] not in brought:
            stops.append(Stop(number, node, None))
    return stops


def _refittable(student: GraphModule, node: Node, layer: WeightLayer) -> bool:
    """Whether a layer that stays dense reads windows of known places, and its weight is its own."""
    weight = dict(student.named_parameters()).get(layer.weight)
    if weight is None or sum(other.inputs.count(layer.weight) for other in student.nodes) != 1:
        return False
    if layer.groups == 1:
        return not layer.obstacle
    padded = node.text("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return padded and weight.ndim == 4 and weight.dtype == torch.float32
