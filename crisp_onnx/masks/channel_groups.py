"""Groups of layers that share a channel dimension: what one of them loses, all of them must lose.

The rows of a producer, the columns of its consumers, and everything element-wise in between have one common width.
A residual Add ties two producers together; Concat, a Reshape that mixes axes and unknown operators end a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        ties = layer is not None or node.op in _TYING or node.op in _SAME_WIDTH
        for out in node.outputs[:1]:
            for name in data:
                if ties and _width(shapes, name) == _width(shapes, out.name):
                    root[find(name)] = find(out.name)
                elif not ties or _width(shapes, name) != 1:
                    reason = f"{node.op} {node.name!r}"
                    bounds.setdefault(name, []).append(reason)
                    bounds.setdefault(out.name, []).append(reason)
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


def _width(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    """Channels of a tensor: axis 1 of images and rows, the last axis of token sequences."""
    shape = shapes.get(name, ())
    if len(shape) == 3:
        return shape[2]
    return shape[1] if len(shape) > 1 else 0
