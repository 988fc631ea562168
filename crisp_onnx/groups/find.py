"""The channel groups of a graph: what every operator says of its channels, put together."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import onnx_graphsurgeon as gs

from crisp_onnx.groups.collect import collect
from crisp_onnx.groups.group import Barrier, ChannelGroup
from crisp_onnx.groups.rules.shuffle import shuffle, shuffle_chain
from crisp_onnx.groups.rules.table import MANY_RESULTS, REASONS, RULES, UNKNOWN
from crisp_onnx.groups.ties import NodeTies, Shapes, Ties
from crisp_onnx.model import WeightLayer

_LONGEST_AXIS = 1 << 20
_MOST_INDICES = 1 << 24
_STANDARD = (None, "", "ai.onnx")
log = logging.getLogger(__name__)


def channel_groups(graph: gs.Graph, layers: Sequence[WeightLayer], shapes: Shapes) -> tuple[ChannelGroup, ...]:
    """Every group of channels that some stored tensor holds, in the order of the graph.

    `layers`: the weight layers, by which groups name who writes and reads them. `shapes`: of all tensors, for one
    image. What is not understood is a barrier of the groups that it touches, and of nothing else.
    """
    ties = Ties(_bounded(shapes))
    for tensor in graph.inputs:
        ties.bind(tensor.name, Barrier("graph input", tensor.name))
    shown = {tensor.name for tensor in graph.outputs}
    done: set[int] = set()
    for node in graph.nodes:
        if id(node) not in done:
            done.update(id(one) for one in _say(node, ties, shown))
    for tensor in graph.outputs:
        ties.bind(tensor.name, Barrier("graph output", tensor.name))
    return collect(graph, layers, ties)


def _bounded(shapes: Shapes) -> Shapes:
    """The shapes less those with the longest axes, so that all indices along all axes together stay within memory."""
    longest = _LONGEST_AXIS
    while True:
        kept = {name: shape for name, shape in shapes.items() if max(shape, default=0) <= longest}
        if sum(map(sum, kept.values())) <= _MOST_INDICES:
            return kept
        longest //= 2


def _say(node: gs.Node, ties: Ties, shown: set[str]) -> Sequence[gs.Node]:
    """Add what one node says, or a chain of nodes from it on; the nodes that are then dealt with."""
    for tensor in _captured(node):
        ties.bind(tensor.name, Barrier(node.op, node.name, "a graph inside it reads them"))
    tensors = [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.is_empty()]
    unknown = next((tensor.name for tensor in tensors if tensor.name not in ties.shapes), None)
    chain = shuffle_chain(node, ties.shapes, shown)
    if chain:
        said = NodeTies(node, ties, chain[-1].outputs)
        shuffle(chain, said)
        said.close()
        return chain
    said = NodeTies(node, ties, node.outputs)
    rule = RULES.get(node.op) if node.domain in _STANDARD else None
    further = any(tensor.outputs or tensor.name in shown for tensor in node.outputs[1:])
    said.reason = REASONS.get(node.op, "") if rule else REASONS.get(node.op, UNKNOWN)
    if unknown is not None:
        said.reason = f"the shape of {unknown!r} is not known, or too long to follow"
    elif rule is not None and (not further or node.op in MANY_RESULTS):
        try:
            rule(node, said)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            log.debug("%s %r is taken for a barrier: %r", node.op, node.name, error)
            said.take_back("its attributes or inputs are not as the operator has them")
    said.close()
    return (node,)


def _captured(node: gs.Node) -> Iterator[gs.Tensor]:
    """Tensors that the graphs inside a node read from outside, without being its inputs."""
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from (tensor for tensor in inner.inputs if not tensor.is_empty())
                yield from _captured(inner)
            yield from value.outputs
