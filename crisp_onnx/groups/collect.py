"""From atoms and ties to groups: channels that lie alike in the same tensors may change places with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    groups = []
    for number, alike in enumerate(found):
        for rows in _runs(alike.atoms):
            members = tuple(_members(ties, rows))
            held = tuple(member for member in members if member.tensor in stored)
            flows = tuple(member for member in members if member.tensor not in stored)
            barriers = (*alike.barriers, *broken.get(number, ()))
            named = _named(graph, by_name, flows, ties)
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


def _members(ties: Ties, rows: Ints) -> Iterator[Member]:
    axes = list(ties.first.items())
    firsts = np.array([first for _, first in axes])
    owner = np.searchsorted(firsts, rows[0], side="right") - 1
    column = 0
    while column < rows.shape[1]:
        end = column + 1
        while end < rows.shape[1] and owner[end] == owner[column] and (rows[:, end] == rows[:, end - 1] + 1).all():
            end += 1
        (tensor, axis), first = axes[owner[column]]
        span = end - column
        step = int(rows[1, column] - rows[0, column]) if len(rows) > 1 else span
        yield Member(tensor, axis, int(rows[0, column]) - first, int(rows[:, end - 1].max()) - first + 1, step, span)
        column = end


def _named(
    graph: gs.Graph, layers: set[str], flows: Sequence[Member], ties: Ties
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(weight layers that write the channels, that read them, other nodes that they go through), in graph order."""
    carried = {(member.tensor, member.axis) for member in flows}
    tensors = {member.tensor for member in flows}
    written, read, passed = [], [], []
    for node in graph.nodes:
        touched = any(tensor.name in tensors for tensor in (*node.inputs, *node.outputs))
        if not touched:
            continue
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
