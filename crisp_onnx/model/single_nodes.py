"""Nodes that are equal to themselves alone: graphsurgeon's are equal by all that they hold.

It looks for a node among the readers of a tensor whenever one of them changes, and compares names, attributes and the
tensors on both sides with each that stands before it: in a graph of thousands of readers that takes hours.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs


class _SingleNode(gs.Node):  # type: ignore[misc]  # graphsurgeon has no types
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def compare_by_identity(graph: gs.Graph) -> None:
    """Let no node of the graph, nor of a graph that a node holds, be equal to another one."""
    graphs = [graph]
    while graphs:
        inner = graphs.pop()
        for node in inner.nodes:
            node.__class__ = _SingleNode
        graphs.extend(inner.subgraphs())
