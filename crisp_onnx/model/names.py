"""Names for new tensors and nodes: none that the graph or a graph inside it already carries."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def tensor_names(graph: gs.Graph) -> set[str]:
    """Names of all tensors of a graph, inner graphs included: an inner name must not hide an outer one."""
    names = set(graph.tensors()) | {tensor.name for tensor in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                names |= tensor_names(value)
    return names


def used_names(graph: gs.Graph) -> set[str]:
    """`tensor_names` and the names of all nodes, for what makes both: no runtime takes two nodes of one name."""
    names = tensor_names(graph)
    for node in graph.nodes:
        names.add(node.name)
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                names |= used_names(value)
    return names


def fresh_name(taken: set[str], wanted: str) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, ... that is not in `taken`; it is taken from then on."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
