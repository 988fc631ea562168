"""Which operators without weights compute on bytes: those by which the fewest numbers cross between bytes and reals.

An Add between two layers in int8 is fastest on bytes. One behind LayerNormalization, or the pieces of a GELU, would
only be crossed into bytes and out again, lose accuracy, and be kept from the runtime's own fusions. Every tensor that
is made in one form and read in the other is crossed once, whole. So the best choice is a minimal cut between the layers
in int8 and what has no int8 form; of several, the one with the fewest operators on bytes.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Hashable
from enum import Enum
from math import prod

import onnx_graphsurgeon as gs

from crisp_onnx.quantize.dense import MOVING

PARTS = frozenset({"Gather"})
"""Operators that give a part of a tensor on."""


class Form(Enum):
    """What a tensor is made of: the two ends of the network."""

    BYTES, REALS = range(2)


UNCUT = 1 << 62
Network = defaultdict[Hashable, dict[Hashable, int]]
"""Capacity by source and target."""


def on_bytes(graph: gs.Graph, fixed: Collection[str], free: Collection[str]) -> frozenset[str]:
    """Of the nodes named in `free`, those that compute on bytes where those named in `fixed` do, and no others can."""
    network: Network = defaultdict(dict)
    sides = {node.name: _side(node, fixed, free) for node in graph.nodes}
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        makers = [sides[node.name] for node in tensor.inputs] or [Form.REALS]
        readers = list(dict.fromkeys(sides[node.name] for node in tensor.outputs))
        size = prod(side for side in tensor.shape or () if isinstance(side, int)) or 1
        for maker in makers:
            _add(network, maker, (tensor.name, "read"), size)
            _add(network, (tensor.name, "made"), maker, size)
        for reader in readers:
            _add(network, (tensor.name, "read"), reader, UNCUT)
            _add(network, reader, (tensor.name, "made"), UNCUT)
    return frozenset(place for place in _reached(network) if isinstance(place, str))


def with_parts(graph: gs.Graph, bytes_at: Collection[str], free: Collection[str]) -> frozenset[str]:
    """The nodes named in `free` that lead from those in `bytes_at` to a Gather, with it: those that are to join them.

    Several that take parts of one tensor, as queries, keys and values of attention, would each have all of it crossed:
    ONNX Runtime makes real numbers anew for every reader.
    """
    found: set[str] = set()
    for part in graph.nodes:
        node, road = part, list[str]()
        while node.name in free and node.op in (MOVING if road else PARTS):
            road.append(node.name)
            if len(node.inputs[0].inputs) != 1:
                break
            node = node.inputs[0].inputs[0]
            if node.name in bytes_at or node.name in found:
                found |= set(road)
                break
    return frozenset(found)


def _side(node: gs.Node, fixed: Collection[str], free: Collection[str]) -> Hashable:
    if node.name in free:
        return str(node.name)
    return Form.BYTES if node.name in fixed else Form.REALS


def _add(network: Network, source: Hashable, target: Hashable, capacity: int) -> None:
    network[source][target] = network[source].get(target, 0) + capacity
    network[target].setdefault(source, 0)


def _reached(network: Network) -> set[Hashable]:
    """What is on the side of the bytes in the minimal cut nearest to them, by augmenting shortest paths."""
    while True:
        before: dict[Hashable, Hashable] = {Form.BYTES: Form.BYTES}
        waiting = deque[Hashable]([Form.BYTES])
        while waiting and Form.REALS not in before:
            source = waiting.popleft()
            for target, left in network[source].items():
                if left > 0 and target not in before:
                    before[target] = source
                    waiting.append(target)
        if Form.REALS not in before:
            return set(before)
        steps: list[tuple[Hashable, Hashable]] = []
        place: Hashable = Form.REALS
        while place != Form.BYTES:
            steps.append((before[place], place))
            place = before[place]
        pushed = min(network[source][target] for source, target in steps)
        for source, target in steps:
            network[source][target] -= pushed
            network[target][source] += pushed
