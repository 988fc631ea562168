"""Residual blocks of a graph: branches that are added to what they read, so that the network stands without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

MOST_NODES = 400


@dataclass(frozen=True)
class ResidualBlock:
    """`start`: the tensor that the branch reads and that is added to it. `end`: the sum. `nodes`: of the branch."""

    name: str
    start: str
    end: str
    nodes: tuple[str, ...]


def residual_blocks(graph: gs.Graph, shapes: Mapping[str, tuple[int, ...]]) -> tuple[ResidualBlock, ...]:
    """Every sum of a tensor and of a branch out of that tensor alone, of the same shape, in the order of the graph.

    Nothing of the branch is read elsewhere, nor shown as an output; the sum is no output either.
    """
    shown = {tensor.name for tensor in graph.outputs}
    found = []
    for node in graph.nodes:
        if node.op != "Add" or node.outputs[0].name in shown:
            continue
        for start, branch in (node.inputs, node.inputs[::-1]):
            nodes = _branch(start, branch, node, shown)
            if nodes and shapes.get(start.name) == shapes.get(node.outputs[0].name) is not None:
                names = tuple(one.name for one in graph.nodes if id(one) in nodes)
                found.append(ResidualBlock(node.name, start.name, node.outputs[0].name, names))
                break
    return tuple(found)


def _branch(start: gs.Tensor, branch: gs.Tensor, total: gs.Node, shown: set[str]) -> set[int]:
    """The nodes between, by id; none where it comes from elsewhere too, or goes elsewhere."""
    if isinstance(start, gs.Constant) or branch is start:
        return set()
    nodes: dict[int, gs.Node] = {}
    waiting, reached = [branch], False
    while waiting:
        tensor = waiting.pop()
        if tensor is start:
            reached = True
            continue
        if isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        if not tensor.inputs or len(nodes) > MOST_NODES:
            return set()
        writer = tensor.inputs[0]
        if id(writer) not in nodes:
            nodes[id(writer)] = writer
            waiting += writer.inputs
    inside = {*nodes, id(total)}
    written = [tensor for node in nodes.values() for tensor in node.outputs]
    closed = all(id(reader) in inside for tensor in written for reader in tensor.outputs)
    return set(nodes) if reached and closed and not any(tensor.name in shown for tensor in written) else set()
