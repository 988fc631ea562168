"""Groups of layers that share a channel dimension: what one of them loses, all of them must lose.

The rows of a producer, the columns of its consumers, and everything element-wise in between have one common width.
A residual Add ties two producers together, and so does a weight that two nodes share; Concat, a Reshape that mixes
axes, grouped convolutions and unknown operators end a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from crisp_onnx.model import WeightLayer

_SAME_WIDTH = frozenset(
    {"BatchNormalization", "InstanceNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid"}
    | {"HardSwish", "Tanh", "Elu", "Selu", "Softplus", "Gelu", "Erf", "Exp", "Sqrt", "Identity", "Dropout", "Cast"}
    | {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LRN", "Resize", "LayerNormalization", "Pow"}
    | {"Flatten", "ReduceMean", "Squeeze", "Reshape", "Neg", "Softmax", "LogSoftmax", "Mish", "Swish"}
)
_TYING = frozenset({"Add", "Sum", "Mul", "Sub", "Div", "Max", "Min", "Mean"})


@dataclass(frozen=True)
class ChannelGroup:
    """`producers` write the shared channels, `consumers` read them; `bounds` says what else keeps them as they are."""

    width: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    bounds: tuple[str, ...]


def channel_groups(
    graph: gs.Graph, layers: Sequence[WeightLayer], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[ChannelGroup, ...]:
    """The groups of all weight layers, in the order of the graph. `shapes`: tensor shapes of one image."""
    by_name = {layer.name: layer for layer in layers}
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    bounds: dict[str, list[str]] = {}
    for node in graph.nodes:
        data = [i.name for i in node.inputs if isinstance(i, gs.Variable) and not i.is_empty()]
        layer = by_name.get(node.name)
        if layer is not None and layer.groups == 1:
            continue
        outs = [out.name for out in node.outputs if not out.is_empty()]
        depthwise = layer is not None and layer.groups == layer.shape[0] and layer.shape[1] == 1
        ties = depthwise or node.op in _TYING or node.op in _SAME_WIDTH
        for name in data:
            if ties and _same_channels(shapes, name, outs[0]):
                root[find(name)] = find(outs[0])
            elif not ties or _width(shapes, name) != 1:
                for bound in (name, *outs):
                    bounds.setdefault(bound, []).append(f"{node.op} {node.name!r}")
    for first, second in _twins(graph, by_name):
        for one, other in zip((first.inputs[0], first.outputs[0]), (second.inputs[0], second.outputs[0]), strict=True):
            root[find(other.name)] = find(one.name)
    for tensor in (*graph.inputs, *graph.outputs):
        kind = "input" if tensor in graph.inputs else "output"
        bounds.setdefault(tensor.name, []).append(f"graph {kind} {tensor.name!r}")
    return _collect(graph, by_name, shapes, bounds, find)


def _collect(
    graph: gs.Graph,
    by_name: Mapping[str, WeightLayer],
    shapes: Mapping[str, tuple[int, ...]],
    bounds: Mapping[str, list[str]],
    find: Callable[[str], str],
) -> tuple[ChannelGroup, ...]:
    producers: dict[str, list[str]] = {}
    consumers: dict[str, list[str]] = {}
    widths: dict[str, int] = {}
    for node in graph.nodes:
        layer = by_name.get(node.name)
        if layer is None:
            continue
        for table, tensor in ((consumers, node.inputs[0]), (producers, node.outputs[0])):
            group = find(tensor.name)
            table.setdefault(group, []).append(node.name)
            widths.setdefault(group, _width(shapes, tensor.name))
    reasons: dict[str, list[str]] = {}
    for name, texts in bounds.items():
        reasons.setdefault(find(name), []).extend(texts)
    return tuple(
        ChannelGroup(
            width,
            tuple(producers.get(group, ())),
            tuple(consumers.get(group, ())),
            tuple(dict.fromkeys(reasons.get(group, ()))),
        )
        for group, width in widths.items()
    )


def _twins(graph: gs.Graph, by_name: Mapping[str, WeightLayer]) -> Iterator[tuple[gs.Node, gs.Node]]:
    """Pairs of nodes that read the same weight."""
    first: dict[str, gs.Node] = {}
    for node in graph.nodes:
        layer = by_name.get(node.name)
        if layer is not None and layer.weight in first:
            yield first[layer.weight], node
        elif layer is not None:
            first[layer.weight] = node


def _same_channels(shapes: Mapping[str, tuple[int, ...]], one: str, other: str) -> bool:
    """Equal known widths on the same axis; images and token sequences keep their channels on different ones."""
    ranks = {len(shapes.get(name, ())) for name in (one, other)}
    if 3 in ranks and max(ranks) > 3:
        return False
    return _width(shapes, one) == _width(shapes, other) > 0


def _width(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    """Channels of a tensor: axis 1 of images and rows, the last axis of token sequences."""
    shape = shapes.get(name, ())
    if len(shape) == 3:
        return shape[2]
    return shape[1] if len(shape) > 1 else 0
