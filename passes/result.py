"""What a pass is, and what it says: how many places it changed and what it left alone, with the reason."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx_graphsurgeon as gs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Declined:
    """One place that a pass left as it was."""

    pass_name: str
    node: str
    reason: str


@dataclass(frozen=True)
class PassResult:
    """`changed`: number of places rewritten."""

    changed: int
    declined: tuple[Declined, ...] = ()


class Pass(Protocol):
    """One rewriting of the graph, which changes nothing it does not understand; its constructor takes what it needs."""

    name: str

    def run(self, graph: gs.Graph) -> PassResult: ...


def run_passes(passes: Sequence[Pass], graph: gs.Graph) -> tuple[Declined, ...]:
    """Run `passes` in order on `graph`, in place; return all that was declined."""
    _tidy(graph)
    return tuple(place for item in passes for place in run_pass(item, graph).declined)


def run_pass(item: Pass, graph: gs.Graph) -> PassResult:
    """Run one pass on `graph`, in place, and put its nodes in order where it changed any."""
    result = item.run(graph)
    log.debug("pass %s: %d changed, %d declined", item.name, result.changed, len(result.declined))
    if result.changed:
        _tidy(graph)
    return result


def _tidy(graph: gs.Graph) -> None:
    """Away with what nothing reads, and every node behind those that it reads from."""
    graph.cleanup(remove_unused_graph_inputs=False).toposort()


def constant(tensor: gs.Tensor | None) -> bool:
    """Whether `tensor` is a stored value."""
    return isinstance(tensor, gs.Constant)


def read_instead(tensor: gs.Tensor, other: gs.Tensor) -> None:
    """Let all that read `tensor` read `other`.

    Slot by slot: a node whose inputs are all set anew is looked for, by its value, among the readers of each of them.
    """
    for reader in {id(node): node for node in tensor.outputs}.values():
        for slot, given in enumerate(reader.inputs):
            if given is tensor:
                reader.inputs[slot] = other


def only_consumer(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """The one node that reads `tensor`, or None when there are several or it is a graph output."""
    if len(tensor.outputs) != 1 or any(tensor is out for out in graph.outputs):
        return None
    return tensor.outputs[0]
