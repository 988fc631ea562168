"""What a graph costs as a function of how many channels each of its groups has lost: MACs and stored bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.channels.chains import Chains
from crisp_onnx.groups import ChannelGroup
from crisp_onnx.model.macs import constant_nodes, images_in_graph, macs_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Axis = tuple[str, int]
_Term = tuple[float, tuple[Axis, ...], int]


class WidthCost(Protocol):
    """What a network costs, as a function of how many channels each of its groups has lost, in fractions or whole."""

    def at(self, removed: npt.ArrayLike) -> float:
        """The cost, with so many channels of each group gone."""

    def gained(self, removed: npt.ArrayLike, step: npt.ArrayLike) -> Floats:
        """(groups,): by how much the cost falls with `step` more channels of one group removed, each group alone."""

    def slopes(self, removed: npt.ArrayLike) -> Floats:
        """(groups,): by how much the cost falls for each channel of a group, at these widths."""


@dataclass(frozen=True, eq=False)
class Terms:
    """A `WidthCost` that is a sum of products of lengths, as MACs and bytes are.

    `amounts` (t,): each at full widths. `lengths` (t, axes): 1 where a term has fewer axes. `spans` (t, axes, groups):
    indices along the axis that one channel of a group takes. `items` (t,): of `chains`, with which each term is gone
    whatever its own lengths are: what leads to a dead group alone; -1 where with none.
    """

    amounts: Floats
    lengths: Floats
    spans: Floats
    items: Ints
    chains: Chains

    def at(self, removed: npt.ArrayLike) -> float:
        gone = np.asarray(removed, np.float64)
        return float(self._left(gone) @ ((self.lengths - self.spans @ gone) / self.lengths).prod(1))

    def slopes(self, removed: npt.ArrayLike) -> Floats:
        removed = np.asarray(removed, np.float64)
        shares = (self.lengths - self.spans @ removed) / self.lengths
        rates = self.spans / self.lengths[:, :, None]
        axes = range(shares.shape[1])
        others = np.stack([np.delete(shares, axis, 1).prod(1) for axis in axes], 1) if shares.size else shares
        found: Floats = np.einsum("t,ta,tag->g", self._left(removed), others, rates)
        return found

    def gained(self, removed: npt.ArrayLike, step: npt.ArrayLike) -> Floats:
        removed, step = np.asarray(removed, np.float64), np.asarray(step, np.int64)
        now = self.lengths - self.spans @ removed
        left = self._left(removed)
        before = left * (now / self.lengths).prod(1)
        found = np.zeros(len(removed))
        for group, terms in enumerate(self._touched):
            then = now[terms] - self.spans[terms, :, group] * step[group]
            after = left[terms] * (then / self.lengths[terms]).prod(1)
            found[group] = before[terms].sum() - after.sum()
        for group, moved in self._turns(removed, step):
            found[group] = before.sum() - self.at(moved)
        return found

    def _left(self, removed: Floats) -> Floats:
        """The amounts of the terms that are not gone."""
        dead = removed >= self.chains.widths
        if not dead.any():
            return self.amounts
        gone = (self.items >= 0) & self.chains.gone(dead[None])[0][self.items]
        return np.where(gone, 0.0, self.amounts)

    def _turns(self, removed: Floats, step: Ints) -> Iterable[tuple[int, Floats]]:
        """The groups that a step takes all channels from, or gives a dead one some, with what is removed then."""
        widths = self.chains.widths
        turns = np.flatnonzero((removed + step >= widths) != (removed >= widths))
        then = np.repeat(removed[None], len(turns), 0)
        then[np.arange(len(turns)), turns] += step[turns]
        self.chains.gone(then >= widths)  # of all at once
        return zip(turns.tolist(), then, strict=True)

    @cached_property
    def _touched(self) -> tuple[Ints, ...]:
        return tuple(np.flatnonzero(self.spans[:, :, group].any(1)) for group in range(self.spans.shape[2]))


class Extent:
    """`macs` of one image and `bytes` of the tensors that hold channels of groups, each a `WidthCost`.

    `shapes`: of all tensors, for one image.
    """

    def __init__(self, graph: gs.Graph, groups: Sequence[ChannelGroup], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.groups = tuple(groups)
        spans: dict[Axis, list[tuple[int, int]]] = {}
        for number, group in enumerate(groups):
            for member in (*group.members, *group.flows):
                spans.setdefault((member.tensor, member.axis), []).append((number, member.span))
        self._spans, self._shapes, self._graph = spans, shapes, graph
        products = tuple(_products(graph, shapes))
        lengths, taken = _measured([axes for _, _, axes in products], spans, shapes, len(groups))
        names, widths = [name for name, _, _ in products], [group.width for group in groups]
        self._chains = Chains(graph, names, lengths, taken, widths)
        self.macs = self._terms((amount, axes, self._chains.nodes[name]) for name, amount, axes in products)
        self.bytes = self._terms((size, axes, self._chains.stored[name]) for name, size, axes in _stored(graph, spans))

    def weighed(self, amounts: Mapping[str, float], *, rest: float) -> Terms:
        """A cost of so much for each node, by name, at full widths, as its products or its results become fewer.

        `rest`: of what no widths change, and of nodes that the graph does not have.
        """
        found: list[_Term] = []
        left = dict(amounts)
        for node in self._graph.nodes:
            amount = left.pop(node.name, 0.0)
            if amount and node.outputs[0].name in self._shapes:
                own = ((node.outputs[0].name, axis) for axis in range(len(self._shapes[node.outputs[0].name])))
                axes = tuple(_axes(node, self._shapes)) or tuple(own)
                found.append((amount, axes, self._chains.nodes[node.name]))
            else:
                rest += amount
        found.append((rest + sum(left.values()), (), -1))
        return self._terms(found)

    def _terms(self, found: Iterable[_Term]) -> Terms:
        listed = list(found)
        lengths, taken = _measured([axes for _, axes, _ in listed], self._spans, self._shapes, len(self.groups))
        amounts = np.array([amount for amount, _, _ in listed], np.float64)
        return Terms(amounts, lengths, taken, np.array([item for *_, item in listed], np.int64), self._chains)


def _products(graph: gs.Graph, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, float, tuple[Axis, ...]]]:
    """Every node that multiplies matrices, its MACs an image, and the axes whose lengths they are a product of."""
    still, images = constant_nodes(graph), images_in_graph(graph, shapes)
    for node in graph.nodes:
        macs = 0 if node.name in still else macs_of(node, shapes)
        if macs:
            yield node.name, macs / images, tuple(_axes(node, shapes))


def _axes(node: gs.Node, shapes: Mapping[str, tuple[int, ...]]) -> Iterable[Axis]:
    names = [tensor.name for tensor in node.inputs]
    if node.op in ("Conv", "ConvTranspose"):
        return (names[1], 0), (names[1], 1)
    if node.op == "Gemm":
        return (names[0], 1 if node.attrs.get("transA", 0) else 0), (names[1], 0), (names[1], 1)
    if node.op == "MatMul":
        rank = len(shapes[names[1]])
        return (*((names[0], axis) for axis in range(len(shapes[names[0]]))), (names[1], rank - 1))
    return ()


def _stored(graph: gs.Graph, held: Iterable[Axis]) -> Iterator[tuple[str, float, tuple[Axis, ...]]]:
    names = {tensor for tensor, _ in held}
    for name, tensor in graph.tensors().items():
        if name in names and isinstance(tensor, gs.Constant):
            yield name, tensor.values.nbytes, tuple((name, axis) for axis in range(tensor.values.ndim))


def _measured(
    found: Sequence[Sequence[Axis]],
    spans: Mapping[Axis, Sequence[tuple[int, int]]],
    shapes: Mapping[str, tuple[int, ...]],
    groups: int,
) -> tuple[Floats, Floats]:
    """`lengths` and `spans` of `Terms`, with so many axes as the most have that hold channels."""
    listed = [[axis for axis in axes if axis in spans] for axes in found]
    most = max(map(len, listed), default=0)
    lengths, taken = np.ones((len(listed), most)), np.zeros((len(listed), most, groups))
    for row, axes in enumerate(listed):
        for place, (tensor, axis) in enumerate(axes):
            lengths[row, place] = shapes[tensor][axis]
            for group, span in spans[tensor, axis]:
                taken[row, place, group] += span
    return lengths, taken
