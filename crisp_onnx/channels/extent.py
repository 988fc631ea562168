"""`Extent`: MACs and stored bytes of a graph as they follow from how many channels each of its groups keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups import ChannelGroup
from crisp_onnx.model.macs import constant_nodes, macs_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Axis = tuple[str, int]


@dataclass(frozen=True, eq=False)
class _Terms:
    """Products of lengths. `amounts` (t,): each at full widths. `lengths` (t, axes): 1 where a term has fewer axes.

    `spans` (t, axes, groups): indices along the axis that one channel of a group takes.
    """

    amounts: Floats
    lengths: Floats
    spans: Floats

    def at(self, removed: Floats) -> float:
        """The sum, with so many channels of each group gone."""
        return float(self.amounts @ ((self.lengths - self.spans @ removed) / self.lengths).prod(1))

    def gains(self, removed: Floats, step: Ints) -> Floats:
        """(groups,): by how much the sum falls with `step` more channels of that group alone."""
        now = self.lengths - self.spans @ removed
        before = self.amounts * (now / self.lengths).prod(1)
        found = np.zeros(len(removed))
        for group, terms in enumerate(self._touched):
            then = now[terms] - self.spans[terms, :, group] * step[group]
            after = self.amounts[terms] * (then / self.lengths[terms]).prod(1)
            found[group] = before[terms].sum() - after.sum()
        return found

    @cached_property
    def _touched(self) -> tuple[Ints, ...]:
        return tuple(np.flatnonzero(self.spans[:, :, group].any(1)) for group in range(self.spans.shape[2]))


class Extent:
    """`shapes`: of all tensors, for one image. Widths are given as the numbers of channels removed, a group each."""

    def __init__(self, graph: gs.Graph, groups: Sequence[ChannelGroup], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.groups = tuple(groups)
        spans: dict[Axis, list[tuple[int, int]]] = {}
        for number, group in enumerate(groups):
            for member in (*group.members, *group.flows):
                spans.setdefault((member.tensor, member.axis), []).append((number, member.span))
        self._macs = _terms(_products(graph, shapes), spans, shapes, len(groups))
        self._bytes = _terms(_stored(graph, spans), spans, shapes, len(groups))

    def macs(self, removed: npt.ArrayLike) -> int:
        """Multiply-accumulates of one image."""
        return round(self._macs.at(np.asarray(removed, np.float64)))

    def bytes(self, removed: npt.ArrayLike) -> int:
        """Of all tensors that hold channels of groups."""
        return round(self._bytes.at(np.asarray(removed, np.float64)))

    def macs_gained(self, removed: npt.ArrayLike, step: npt.ArrayLike) -> Floats:
        """(groups,): MACs fewer with `step` more channels of one group removed, each group alone."""
        return self._macs.gains(np.asarray(removed, np.float64), np.asarray(step, np.int64))

    def bytes_gained(self, removed: npt.ArrayLike, step: npt.ArrayLike) -> Floats:
        """(groups,): bytes fewer, in the same way."""
        return self._bytes.gains(np.asarray(removed, np.float64), np.asarray(step, np.int64))


def _products(graph: gs.Graph, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[float, tuple[Axis, ...]]]:
    """Every node that multiplies matrices: its MACs, and the axes whose lengths they are a product of."""
    still = constant_nodes(graph)
    for node in graph.nodes:
        macs = 0 if node.name in still else macs_of(node, shapes)
        if macs:
            yield macs, tuple(_axes(node, shapes))


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


def _stored(graph: gs.Graph, held: Iterable[Axis]) -> Iterator[tuple[float, tuple[Axis, ...]]]:
    names = {tensor for tensor, _ in held}
    for name, tensor in graph.tensors().items():
        if name in names and isinstance(tensor, gs.Constant):
            yield tensor.values.nbytes, tuple((name, axis) for axis in range(tensor.values.ndim))


def _terms(
    found: Iterable[tuple[float, tuple[Axis, ...]]],
    spans: Mapping[Axis, Sequence[tuple[int, int]]],
    shapes: Mapping[str, tuple[int, ...]],
    groups: int,
) -> _Terms:
    listed = [(amount, [axis for axis in axes if axis in spans]) for amount, axes in found]
    most = max((len(axes) for _, axes in listed), default=0)
    lengths, taken = np.ones((len(listed), most)), np.zeros((len(listed), most, groups))
    for row, (_, axes) in enumerate(listed):
        for place, (tensor, axis) in enumerate(axes):
            lengths[row, place] = shapes[tensor][axis]
            for group, span in spans[tensor, axis]:
                taken[row, place, group] += span
    return _Terms(np.array([amount for amount, _ in listed], np.float64), lengths, taken)
