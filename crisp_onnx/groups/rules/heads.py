"""Which of the axes that a channel axis is split into is the unit: attention heads rather than places inside a head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx_graphsurgeon as gs

from crisp_onnx.groups.rules.reductions import REDUCTIONS, reduced_axes
from crisp_onnx.groups.rules.stated import stated_axes

_THROUGH = frozenset({"Mul", "Div", "Add", "Sub", "Identity", "Cast", "Neg", "Relu", "Elu", "Sqrt"})
_PICKING = frozenset({"Gather", "Split", "Slice"})
_DEPTH = 12

Places = dict[int, int]
ShapeOf = Callable[[gs.Tensor], tuple[int, ...]]


def unit_axis(tensor: gs.Tensor, axes: Sequence[int], shape_of: ShapeOf) -> int:
    """The one of `axes` that later products keep apart, as a batch of matrices; the outermost where none does.

    An axis out of which Gather, Split or Slice pick places (query, key and value), or along which values are summed or
    weighed against one another (the branches of a selective kernel), is not taken if another is left.
    """
    batched: set[int] = set()
    picked: set[int] = set()
    places: Places = {axis: axis for axis in axes}
    waiting, seen = [(tensor, places)], set[tuple[int, tuple[tuple[int, int], ...]]]()
    for _ in range(_DEPTH):
        found = [after for one in waiting for after in _behind(*one, batched, picked, shape_of)]
        waiting = []
        for result, after in found:
            key = (id(result), tuple(after.items()))
            if after and key not in seen:
                seen.add(key)
                waiting.append((result, after))
    return next(
        (axis for axis in axes if axis in batched), next((axis for axis in axes if axis not in picked), axes[0])
    )


def _behind(
    tensor: gs.Tensor, places: Places, batched: set[int], picked: set[int], shape_of: ShapeOf
) -> Iterator[tuple[gs.Tensor, Places]]:
    """One step on to the products that read `tensor`; `places`: where in it each of the axes has come to lie."""
    for node in tensor.outputs:
        after = dict(places)
        if node.op == "MatMul":
            rank = len(shape_of(node.outputs[0]))
            batched.update(axis for axis, place in places.items() if place < rank - 2)
            continue
        if node.op == "Transpose":
            perm = [int(axis) for axis in node.attrs.get("perm", ())]
            after = {axis: perm.index(place) for axis, place in places.items() if place in perm}
        elif node.op in _PICKING:
            along = _picked_axis(node, len(shape_of(tensor)))
            gone = {axis for axis, place in places.items() if place == along}
            picked |= gone
            dropped = node.op == "Gather" and not shape_of(node.inputs[1])
            after = {axis: place - (dropped and place > along) for axis, place in places.items() if axis not in gone}
        elif node.op in REDUCTIONS:
            reduced = reduced_axes(node, len(shape_of(tensor))) or set()
            gone = {axis for axis, place in places.items() if place in reduced}
            picked |= gone
            left = {axis: place for axis, place in places.items() if axis not in gone}
            after = left if node.attrs.get("keepdims", 1) else _without(left, reduced)
        elif node.op == "Softmax":
            along = int(node.attrs.get("axis", -1)) % len(shape_of(tensor))
            picked |= {axis for axis, place in places.items() if place == along}
        elif node.op == "Squeeze":
            after = _without(places, stated_axes(node, len(shape_of(tensor))) or set())
        elif node.op == "Unsqueeze":
            rank = len(shape_of(node.outputs[0]))
            left_over = sorted(set(range(rank)) - (stated_axes(node, rank) or set()))
            after = {axis: left_over[place] for axis, place in places.items()}
        elif node.op not in _THROUGH:
            continue
        yield from ((result, after) for result in node.outputs)


def _picked_axis(node: gs.Node, rank: int) -> int:
    if node.op != "Slice":
        return int(node.attrs.get("axis", 0)) % rank
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    return int(axes.values.reshape(-1)[0]) % rank if isinstance(axes, gs.Constant) and axes.values.size == 1 else -1


def _without(places: Places, dropped: set[int]) -> Places:
    """Where the axes lie once some others are dropped."""
    return {axis: place - sum(one < place for one in dropped) for axis, place in places.items()}
