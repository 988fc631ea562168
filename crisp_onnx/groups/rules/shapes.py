"""Reshape and its kin: axes that are merged, split or shuffled, and which of them a channel follows."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.rules.heads import unit_axis
from crisp_onnx.groups.rules.stated import stated_at
from crisp_onnx.groups.ties import Ints, NodeTies

Block = tuple[list[int], list[int]]
"""Neighbouring axes of the input and of the output that hold the same elements."""


def reshape(node: gs.Node, ties: NodeTies) -> None:
    """Flatten, Squeeze and Unsqueeze too: what matters is the shape before and after."""
    x, y = node.inputs[0], node.outputs[0]
    for told in node.inputs[1:]:
        if not told.is_empty():
            ties.ignore(told)
    before, after = ties.shape(x), ties.shape(y)
    if 0 in before or prod(before) != prod(after):
        return
    if node.op == "Reshape":
        for axis, size in enumerate(after):
            if size > 1 and stated_at(node.inputs[1], axis) is None:
                ties.keep(y, axis, "the shape that it gives is computed, not stored")
    for axes, places in _blocks(before, after):
        if len(axes) == len(places) == 1:
            ties.tie((x, axes[0]), (y, places[0]))
            continue
        live = [axis for axis in axes if ties.is_live(x, axis)]
        if not live:
            continue
        if len(places) == 1:
            _tie_parts(ties, (x, live[0]), (y, places[0]), _owners(before, axes, live[0]))
        elif len(axes) == 1:
            unit = unit_axis(y, places, ties.shape)
            _tie_parts(ties, (y, unit), (x, axes[0]), _owners(after, places, unit))
        elif live[0] == axes[0]:
            _tie_majors(ties, (x, axes[0]), (y, places[0]))
    ties.reason = "it splits or merges axes, of which one can be followed"


def shape_of(node: gs.Node, ties: NodeTies) -> None:
    """Shape and Size ask how many there are, not which comes first."""
    x = node.inputs[0]
    ties.ignore(x)
    for axis in _asked(node, len(ties.shape(x))):
        if ties.shape(x)[axis] > 1:
            ties.keep(x, axis, "it asks for their number")


def _asked(node: gs.Node, rank: int) -> set[int]:
    """The axes whose lengths are made use of: those that Gather picks out of a Shape, or all."""
    every = range(rank)
    if node.op != "Shape":
        return set(every)
    told = list(every)[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
    asked: set[int] = set()
    for reader in node.outputs[0].outputs:
        picked = reader.inputs[1] if reader.op == "Gather" and reader.inputs[0] is node.outputs[0] else None
        if not isinstance(picked, gs.Constant):
            return set(told)
        asked.update(told[int(place)] for place in picked.values.reshape(-1))
    return asked


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[Block]:
    """The shortest runs of axes with equal products; axes of one index belong to none."""
    waiting = [axis for axis, size in enumerate(after) if size > 1]
    axes: list[int] = []
    places: list[int] = []
    for axis in (axis for axis, size in enumerate(before) if size > 1):
        axes.append(axis)
        while prod(after[place] for place in places) < prod(before[one] for one in axes):
            places.append(waiting.pop(0))
        if prod(after[place] for place in places) == prod(before[one] for one in axes):
            yield axes, places
            axes, places = [], []


def _owners(shape: tuple[int, ...], axes: list[int], wanted: int) -> Ints:
    """For every index of the merged axes, the index along the wanted one."""
    sizes = [shape[axis] for axis in axes]
    along = np.arange(shape[wanted]).reshape([-1 if axis == wanted else 1 for axis in axes])
    owners: Ints = np.broadcast_to(along, sizes).reshape(-1)
    return owners


def _tie_parts(ties: NodeTies, part: tuple[gs.Tensor, int], whole: tuple[gs.Tensor, int], owners: Ints) -> None:
    ties.tie((*part, owners), (*whole, np.arange(len(owners))))


def _tie_majors(ties: NodeTies, one: tuple[gs.Tensor, int], other: tuple[gs.Tensor, int]) -> None:
    """The outermost axes of both sides, where the runs of one lie whole inside those of the other."""
    few, many = sorted((one, other), key=lambda side: ties.shape(side[0])[side[1]])
    size, count = ties.shape(few[0])[few[1]], ties.shape(many[0])[many[1]]
    if count % size == 0:
        places = np.arange(count)
        ties.tie((*few, places // (count // size)), (*many, places))
