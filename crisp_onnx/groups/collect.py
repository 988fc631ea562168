"""From atoms and ties to groups: channels that lie alike in the same tensors may change places with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.group import Barrier, ChannelGroup, Member
from crisp_onnx.groups.ties import Ints, Ties
from crisp_onnx.model import WeightLayer


@dataclass(frozen=True)
class _Alike:
    """`atoms`: (width, places): a row a channel, a column a place that each of them has."""

    atoms: Ints
    barriers: tuple[Barrier, ...]
    keeps: tuple[Barrier, ...]


def collect(graph: gs.Graph, layers: Sequence[WeightLayer], ties: Ties) -> tuple[ChannelGroup, ...]:
    """The groups that hold some index of a stored tensor and some of a computed one, in the order of the graph."""
    stored = {name for name, tensor in graph.tensors().items() if _is_weight(tensor)}
    channels = ties.channels()
    found = _alike(ties, channels, stored)
    broken = _out_of_step(ties, found)
    by_name = {layer.name for layer in layers}
    axes, touching = _Axes(ties), _touching(graph)
    groups = []
    for number, alike in enumerate(found):
        for rows in _runs(alike.atoms):
            members = tuple(axes.members(rows))
            held = tuple(member for member in members if member.tensor in stored)
            flows = tuple(member for member in members if member.tensor not in stored)
            barriers = (*alike.barriers, *broken.get(number, ()))
            named = _named(touching, by_name, flows, ties)
            groups.append(ChannelGroup(len(rows), held, flows, *named, barriers, alike.keeps))
    return tuple(groups)


def _is_weight(tensor: gs.Tensor) -> bool:
    """Whether a tensor is stored and of numbers that models compute with, rather than sizes and places."""
    return isinstance(tensor, gs.Constant) and (tensor.dtype.kind == "f" or tensor.dtype.itemsize == 1)


def _alike(ties: Ties, channels: Ints, stored: set[str]) -> list[_Alike]:
    """Channels of the same marks: as many indices along the same axes, and the same barriers."""
    axes = list(ties.first)
    sizes = [ties.shapes[tensor][axis] for tensor, axis in axes]
    axis_of = np.repeat(np.arange(len(axes)), sizes)
    held = np.repeat([tensor in stored for tensor, _ in axes], sizes)
    whole = np.zeros((2, ties.count), bool)
    whole[held.astype(int), channels] = True
    marks, marked = [axis_of], [channels]
    count = len(axes)
    barriers: dict[int, Barrier] = {}
    for said in (ties.bound, ties.kept):
        for atoms, barrier in said:
            marked.append(np.unique(channels[atoms]))
            marks.append(np.full(len(marked[-1]), count))
            barriers[count] = barrier
            count += 1
    first_kept = len(axes) + len(ties.bound)
    for atoms, numbers in ties.parted:
        marked.append(channels[atoms])
        marks.append(numbers + count)
        count += int(numbers.max()) + 1
    mark, channel = np.concatenate(marks), np.concatenate(marked)
    wanted = (whole[0] & whole[1])[channel]
    order = np.lexsort((mark[wanted], channel[wanted]))
    mark, channel = mark[wanted][order], channel[wanted][order]
    ends = np.flatnonzero(np.diff(channel, append=-1)) + 1
    same: dict[bytes, list[int]] = {}
    for start, end in pairwise([0, *ends]):
        same.setdefault(mark[start:end].tobytes(), []).append(int(channel[start]))
    by_channel = np.argsort(channels, kind="stable")
    starts = np.searchsorted(channels[by_channel], np.arange(ties.count + 1))
    found = []
    for key, members in same.items():
        said_of = [number for number in np.unique(np.frombuffer(key, np.int64)) if number in barriers]
        found.append(
            _Alike(
                np.stack([by_channel[starts[one] : starts[one + 1]] for one in members]),
                tuple(dict.fromkeys(barriers[number] for number in said_of if number < first_kept)),
                tuple(dict.fromkeys(barriers[number] for number in said_of if number >= first_kept)),
            )
        )
    return found


def _out_of_step(ties: Ties, found: Sequence[_Alike]) -> dict[int, tuple[Barrier, ...]]:
    """Groups, by number, in which some node ties the places of one channel otherwise than those of another.

    Channels with several indices along one axis change places index by index, in order; that must fit every node.
    """
    group, place, channel = (np.full(ties.count, -1) for _ in range(3))
    firsts = np.array(list(ties.first.values()))
    for number, alike in enumerate(found):
        width, places = alike.atoms.shape
        axes = np.searchsorted(firsts, alike.atoms[0], side="right")
        if len(np.unique(axes)) == places:
            continue
        group[alike.atoms] = number
        place[alike.atoms] = np.arange(places)
        channel[alike.atoms] = np.arange(width)[:, None]
    broken: dict[int, dict[Barrier, None]] = {}
    for one, other, barrier in ties.tied:
        several = group[one] >= 0
        if not several.any():
            continue
        rows = np.stack([group[one], place[one], place[other], channel[one]])[:, several]
        pairs, counts = np.unique(np.unique(rows, axis=1)[:3], axis=1, return_counts=True)
        for number in np.unique(pairs[0, counts != [len(found[g].atoms) for g in pairs[0]]]):
            broken.setdefault(int(number), {})[barrier] = None
    return {number: tuple(barriers) for number, barriers in broken.items()}


def _runs(atoms: Ints) -> Iterator[Ints]:
    """Rows whose indices advance by equal steps in every column, which a `Member` can say."""
    start = 0
    steps = np.diff(atoms, axis=0)
    while start < len(atoms):
        end = start + 1
        while end < len(atoms) and np.array_equal(steps[end - 1], steps[start]):
            end += 1
        yield atoms[start:end]
        start = end


class _Axes:
    """The axes of all tensors, and where among all places each begins."""

    def __init__(self, ties: Ties) -> None:
        self.axes = list(ties.first.items())
        self.firsts = np.array([first for _, first in self.axes])

    def members(self, rows: Ints) -> Iterator[Member]:
        """Of channels, a row each."""
        owner = np.searchsorted(self.firsts, rows[0], side="right") - 1
        goes_on = (rows[:, 1:] == rows[:, :-1] + 1).all(0) & (owner[1:] == owner[:-1])
        starts = np.flatnonzero(np.append(True, ~goes_on))
        for column, end in pairwise([*starts.tolist(), rows.shape[1]]):
            (tensor, axis), first = self.axes[owner[column]]
            span = end - column
            step = int(rows[1, column] - rows[0, column]) if len(rows) > 1 else span
            yield Member(
                tensor, axis, int(rows[0, column]) - first, int(rows[:, end - 1].max()) - first + 1, step, span
            )


def _touching(graph: gs.Graph) -> dict[str, dict[int, gs.Node]]:
    """For every tensor the nodes that read or write it, by their place in the graph."""
    found: dict[str, dict[int, gs.Node]] = {}
    for place, node in enumerate(graph.nodes):
        for tensor in (*node.inputs, *node.outputs):
            found.setdefault(tensor.name, {})[place] = node
    return found


def _named(
    touching: Mapping[str, Mapping[int, gs.Node]], layers: set[str], flows: Sequence[Member], ties: Ties
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(weight layers that write the channels, that read them, other nodes that they go through), in graph order."""
    carried = {(member.tensor, member.axis) for member in flows}
    touched = {place: node for member in flows for place, node in touching.get(member.tensor, {}).items()}
    written, read, passed = [], [], []
    for _, node in sorted(touched.items(), key=itemgetter(0)):
        writes = node.name in layers and _channel_axis(node, node.outputs[0], ties) in carried
        reads = node.name in layers and _channel_axis(node, node.inputs[0], ties) in carried
        written += [node.name] * writes
        read += [node.name] * reads
        passed += [node.name] * (not writes and not reads)
    return tuple(written), tuple(read), tuple(passed)


def _channel_axis(node: gs.Node, tensor: gs.Tensor, ties: Ties) -> tuple[str, int]:
    """The channel axis of a weight layer's input or output."""
    if node.op == "MatMul":
        return tensor.name, len(ties.shapes[tensor.name]) - 1
    turned = node.op == "Gemm" and node.attrs.get("transA", 0) and tensor is node.inputs[0]
    return tensor.name, 0 if turned else 1
