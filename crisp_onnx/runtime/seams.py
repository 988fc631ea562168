"""Where hybrid layers meet convolutions in the runtime's blocked layout, which costs conversions there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_graphsurgeon as gs

from crisp_onnx.format.node import activations_of, is_hybrid, read

KEEPS_LAYOUT = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Elu", "HardSigmoid", "HardSwish", "Identity",
        "LeakyRelu", "MaxPool", "Mul", "PRelu", "Relu", "Sigmoid", "Sub", "Sum", "Tanh",
        "QuantizeLinear", "DequantizeLinear",
    }
)  # fmt: skip
"""Operators that ONNX Runtime runs in whichever layout their input has; others ask for the plain one anyway."""


def dense_sides(graph: gs.Graph, dense: Iterable[str] = ()) -> dict[str, int]:
    """For every hybrid convolution by node name, the sides (input, output: 0 to 2) that meet an ordinary convolution.

    The hybrid convolutions named in `dense` count as ordinary ones where others meet them.
    """
    ordinary = frozenset(dense)

    def blocked(node: gs.Node) -> bool:
        return node.op == "Conv" or node.name in ordinary

    found = {}
    for node in graph.nodes:
        if is_hybrid(node) and read(node).operator.product == "conv":
            before = [producer for tensor in activations_of(node) for producer in tensor.inputs]
            after = [consumer for tensor in node.outputs for consumer in tensor.outputs]
            found[node.name] = _meets(before, blocked, _producers) + _meets(after, blocked, _consumers)
    return found


def _meets(
    start: Iterable[gs.Node], blocked: Callable[[gs.Node], bool], onward: Callable[[gs.Node], list[gs.Node]]
) -> bool:
    """Whether a walk from `start` through operators that keep the layout ends at a node in the blocked one."""
    waiting, seen = list(start), set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if blocked(node):
            return True
        if node.op in KEEPS_LAYOUT:
            waiting += onward(node)
    return False


def _producers(node: gs.Node) -> list[gs.Node]:
    return [producer for tensor in node.inputs for producer in tensor.inputs]


def _consumers(node: gs.Node) -> list[gs.Node]:
    return [consumer for tensor in node.outputs for consumer in tensor.outputs]
