"""State anew what nodes say of the number or the places of their channels, once some of these are removed.

A Reshape names lengths, a Split sizes, a Slice and a Gather places, a depthwise convolution its number of groups. An
operator that is not in the table says nothing of the kind. Means are over as many channels as before, and extremes over
the zeros of those that are gone too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups import Removed, pieces, shuffle_chain, shuffled_orders
from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.narrowed import Ints, Narrowed
from crisp_onnx.passes.restate_norms import layer_norm, reduce_max, reduce_mean, reduce_min, rms_norm


def restate(graph: gs.Graph, removed: Removed, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Change the nodes of `graph` in place. `shapes`: of all tensors before the removal, for one image."""
    narrowed = Narrowed(graph, removed, shapes, used_names(graph))
    shown = {tensor.name for tensor in graph.outputs}
    done: set[int] = set()
    for node in list(graph.nodes):
        if id(node) in done or not any((t.name, axis) in removed for t in _tensors(node) for axis in range(8)):
            continue
        chain = shuffle_chain(node, shapes, shown)
        if chain:
            done.update(id(one) for one in chain)
            _shuffle(chain, narrowed)
        elif node.op in _TABLE:
            _TABLE[node.op](node, narrowed)


def _tensors(node: gs.Node) -> list[gs.Tensor]:
    return [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.is_empty()]


def _convolution(node: gs.Node, narrowed: Narrowed) -> None:
    """A depthwise convolution has a group a channel; other groups all lose as many channels, and stay."""
    groups, weight = int(node.attrs.get("group", 1)), narrowed.shapes[node.inputs[1].name]
    depthwise = weight[1] == 1 if node.op == "Conv" else weight[0] == groups
    if groups > 1 and depthwise:
        node.attrs["group"] = narrowed.length(node.inputs[0], 1)


def _reshape(node: gs.Node, narrowed: Narrowed) -> None:
    x, y = node.inputs[0], node.outputs[0]
    copies = not node.attrs.get("allowzero", 0)

    def new_length(axis: int, length: int) -> int:
        if length > 0 and narrowed.loses(y, axis):
            return narrowed.length(y, axis)
        if length == 0 and copies and narrowed.length(x, axis) != narrowed.length(y, axis):
            return narrowed.length(y, axis)
        return length

    _restate_lengths(node, 1, 0, narrowed, new_length)


def _restate_lengths(
    node: gs.Node, place: int, first: int, narrowed: Narrowed, new_length: Callable[[int, int], int]
) -> None:
    """Change the stored numbers among the lengths that an input states, of the axes from `first` on."""
    told = node.inputs[place]
    parts = [(0, told.values.size, told)] if isinstance(told, gs.Constant) else pieces(told)
    for start, _, part in parts:
        if not isinstance(part, gs.Constant):
            continue
        old = np.array(part.values, np.int64).reshape(-1)
        new = [new_length(first + start + place, int(length)) for place, length in enumerate(old)]
        if new == old.tolist():
            continue
        if part is told:
            narrowed.state(node, place, new)
        else:
            joined = _own_concat(node, place, narrowed)
            at = next(number for number, piece in enumerate(joined.inputs) if piece is part)
            narrowed.state(joined, at, new)


def _own_concat(node: gs.Node, place: int, narrowed: Narrowed) -> gs.Node:
    """The Concat that states the lengths of this node alone."""
    told = node.inputs[place]
    joined: gs.Node = told.inputs[0]
    if len(told.outputs) == 1:
        return joined
    own = gs.Variable(fresh_name(narrowed.taken, f"{told.name}.narrow"), told.dtype)
    copy = gs.Node("Concat", own.name, dict(joined.attrs), inputs=list(joined.inputs), outputs=[own])
    narrowed.graph.nodes.append(copy)
    node.inputs[place] = own
    return copy


def _split(node: gs.Node, narrowed: Narrowed) -> None:
    along = int(node.attrs.get("axis", 0)) % narrowed.rank(node.inputs[0])
    if narrowed.loses(node.inputs[0], along):
        node.attrs.pop("num_outputs", None)
        narrowed.state(node, 1, [narrowed.length(out, along) for out in node.outputs])


def _gather(node: gs.Node, narrowed: Narrowed) -> None:
    x, y = node.inputs[0], node.outputs[0]
    along = int(node.attrs.get("axis", 0)) % narrowed.rank(x)
    if narrowed.loses(x, along):
        size = narrowed.shapes[x.name][along]
        wanted = np.asarray(node.inputs[1].values, np.int64).reshape(-1) % size
        narrowed.state(node, 1, narrowed.places(x, along, wanted[narrowed.kept(y, along)]))


def _slice(node: gs.Node, narrowed: Narrowed) -> None:
    """Where what is left does not lie in even steps any more, a Gather behind takes over that axis."""
    x, y = node.inputs[0], node.outputs[0]
    starts, ends, axes, steps = _cuts(node, narrowed.rank(x))
    if not any(narrowed.loses(x, axis) for axis in axes):
        return
    left, gathered = [], list[tuple[int, Ints]]()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = narrowed.shapes[x.name][axis]
        taken = np.arange(size)[start:end:step][narrowed.kept(y, axis)]
        places = narrowed.places(x, axis, taken)
        strides = np.unique(np.diff(places))
        if not narrowed.loses(x, axis):
            left.append((start, end, axis, step))
        elif len(strides) > 1:
            gathered.append((axis, places))
        else:
            stride = int(strides[0]) if len(strides) else 1
            last = int(places[-1]) + (1 if stride > 0 else -1)
            left.append((int(places[0]), last if last >= 0 else -narrowed.length(x, axis) - 1, axis, stride))
    _gather_behind(node, gathered, narrowed)
    if left:
        for place, values in enumerate(zip(*left, strict=True), 1):
            narrowed.state(node, place, values)
        return
    (reader,) = node.outputs[0].outputs
    reader.inputs[0] = x
    node.outputs.clear()


def _cuts(node: gs.Node, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Starts, ends, axes and steps, all stored."""
    told = [None if t.is_empty() else [int(v) for v in t.values.reshape(-1)] for t in node.inputs[1:]]
    starts, ends = told[0] or [], told[1] or []
    axes = (told[2] if len(told) > 2 else None) or list(range(len(starts)))
    steps = (told[3] if len(told) > 3 else None) or [1] * len(starts)
    return starts, ends, [axis % rank for axis in axes], steps


def _shuffle(chain: tuple[gs.Node, ...], narrowed: Narrowed) -> None:
    """Lengths do not divide any more, so that a Gather of the order takes the place of the whole chain."""
    x, y = chain[0].inputs[0], chain[-1].outputs[0]
    orders = shuffled_orders(chain, narrowed.shapes[x.name], narrowed.shapes[chain[0].outputs[0].name])
    gathered = []
    for axis, order in enumerate(orders):
        places = narrowed.places(x, axis, order[narrowed.kept(y, axis)])
        if not np.array_equal(places, np.arange(len(places))):
            gathered.append((axis, places))
    first, last = chain[0], chain[-1]
    last.outputs.clear()
    first.op, first.attrs = "Identity", {}
    first.inputs, first.outputs = [x], [y]
    _gather_behind(first, gathered, narrowed)


def _gather_behind(node: gs.Node, gathered: list[tuple[int, Ints]], narrowed: Narrowed) -> None:
    """Take `places` of an axis of the node's result, one Gather after another."""
    y = node.outputs[0]
    for axis, places in gathered:
        whole = gs.Variable(fresh_name(narrowed.taken, f"{y.name}.whole"), y.dtype)
        writer = y.inputs[0]
        writer.outputs = [whole]
        picked = gs.Constant(fresh_name(narrowed.taken, f"{y.name}.places"), places.astype(np.int64))
        name = fresh_name(narrowed.taken, f"{y.name}.gather{axis}")
        narrowed.graph.nodes.append(gs.Node("Gather", name, {"axis": axis}, inputs=[whole, picked], outputs=[y]))


def _stated_lengths(place: int) -> Callable[[gs.Node, Narrowed], None]:
    """The input at `place` states the lengths of the result, aligned to its last axes."""

    def run(node: gs.Node, narrowed: Narrowed) -> None:
        if len(node.inputs) <= place or node.inputs[place].is_empty():
            return
        y = node.outputs[0]
        first = narrowed.rank(y) - narrowed.shapes[node.inputs[place].name][0]
        _restate_lengths(
            node, place, first, narrowed,
            lambda axis, length: narrowed.length(y, axis) if length != 1 and narrowed.loses(y, axis) else length,
        )  # fmt: skip

    return run


_TABLE: Mapping[str, Callable[[gs.Node, Narrowed], None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Expand": _stated_lengths(1),
    "Gather": _gather,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min,
    "Reshape": _reshape,
    "Resize": _stated_lengths(3),
    "Slice": _slice,
    "Split": _split,
}
