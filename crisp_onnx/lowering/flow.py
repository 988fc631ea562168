"""What of each layer comes from which other, from the model's own input, and goes to its outputs."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from crisp_onnx.lowering.fusion import Fusion


@dataclass(frozen=True)
class Flow:
    """`reads`: for every layer those whose outputs it takes, seen through operators that cost nothing.

    `takes`: the layers that take the model's own input, `answers`: those that give what the model gives.
    """

    reads: dict[str, tuple[str, ...]]
    takes: frozenset[str]
    answers: frozenset[str]


def flow(graph: gs.Graph, entry: str, fusion: Fusion, layers: Container[str], still: Container[str]) -> Flow:
    """Of `layers`, in a graph whose input is the tensor `entry`.

    Of what the `still` operators take no value is read: the shape of a tensor does not keep it.
    """
    head = {name: product for product, names in fusion.heads.items() for name in (product, *names)}
    sources: dict[int, tuple[str, ...]] = {}
    given = {id(tensor) for tensor in graph.inputs if tensor.name == entry}
    reads: dict[str, dict[str, None]] = {}  # keys in order, each once
    takes: set[str] = set()
    for node in graph.nodes:
        if node.name in still:
            continue
        taken = [name for tensor in node.inputs for name in sources.get(id(tensor), ())]
        by_border = any(id(tensor) in given for tensor in node.inputs)
        layer = head.get(node.name, node.name)
        if layer in layers:
            reads.setdefault(layer, {}).update((name, None) for name in taken if name != layer)
            if by_border:
                takes.add(layer)
        elif by_border:
            given.update(id(tensor) for tensor in node.outputs)
        found = (layer,) if layer in layers else tuple(taken)
        sources.update((id(tensor), found) for tensor in node.outputs)
    answers = {name for tensor in graph.outputs for name in sources.get(id(tensor), ())}
    return Flow({layer: tuple(names) for layer, names in reads.items()}, frozenset(takes), frozenset(answers))
