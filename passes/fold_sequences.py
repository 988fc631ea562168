"""Resolve sequences of tensors whose length and places are known: what stands at a place is read directly."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import Declined, PassResult, constant

MAX_LENGTH = 4096


class _UnknownError(Exception):
    """Why a sequence cannot be followed, a phrase."""


class FoldSequences:
    """SplitToSequence becomes Split, ConcatFromSequence Concat; SequenceAt, -Insert, -Erase and -Length go."""

    name = "fold_sequences"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        work = _Work(graph)
        graph.toposort()
        for node in list(graph.nodes):
            handler = _HANDLERS.get(node.op)
            if handler is None or node.domain not in (None, "", "ai.onnx"):
                continue
            try:
                handler(work, node)
                changed += 1
            except _UnknownError as unknown:
                declined.append(Declined(self.name, node.name, str(unknown)))
        return PassResult(changed, tuple(declined))


class _Work:
    """The graph, and the tensors of each sequence that could be followed, by the sequence's name."""

    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        self.sequences: dict[str, list[gs.Tensor]] = {}
        self.taken = used_names(graph)

    def new(self, base: str) -> gs.Variable:
        return gs.Variable(fresh_name(self.taken, base))

    def stored(self, base: str, values: list[int]) -> gs.Constant:
        return gs.Constant(fresh_name(self.taken, base), np.array(values, np.int64))

    def add(self, op: str, node: gs.Node, inputs: list[gs.Tensor], outputs: list[gs.Tensor], **attrs: object) -> None:
        name = fresh_name(self.taken, f"{node.name}.{op}")
        self.graph.nodes.append(gs.Node(op, name, dict(attrs), inputs, outputs))

    def items(self, tensor: gs.Tensor) -> list[gs.Tensor]:
        if tensor.name not in self.sequences:
            raise _UnknownError("what its sequence holds is not known")
        return self.sequences[tensor.name]

    def replace(self, node: gs.Node, op: str, inputs: list[gs.Tensor], **attrs: object) -> None:
        """Let a new node write what `node` wrote."""
        out = node.outputs[0]
        node.outputs.clear()
        self.add(op, node, inputs, [out], **attrs)


def _split(work: _Work, node: gs.Node) -> None:
    axis, shape = int(node.attrs.get("axis", 0)), node.inputs[0].shape
    length = shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    if not isinstance(length, int):
        raise _UnknownError("the length of the axis that it splits is not known")
    given = node.inputs[1] if len(node.inputs) > 1 and not node.inputs[1].is_empty() else None
    if given is not None and not constant(given):
        raise _UnknownError("the lengths of its parts are computed")
    if given is not None and given.values.ndim:
        lengths = [int(part) for part in given.values]
    else:
        each = 1 if given is None else int(given.values)
        lengths = [min(each, length - start) for start in range(0, length, max(each, 1))]
    if len(lengths) > MAX_LENGTH or sum(lengths) != length or min(lengths, default=0) < 0:
        raise _UnknownError("its parts do not make up the axis")
    name = node.outputs[0].name
    parts = [work.new(f"{name}.{place}") for place in range(len(lengths))]
    work.add("Split", node, [node.inputs[0], work.stored(f"{name}.lengths", lengths)], parts, axis=axis)
    if given is None and not node.attrs.get("keepdims", 1):
        whole, parts = parts, [work.new(f"{name}.row") for _ in parts]
        axes = work.stored(f"{name}.axis", [axis])
        for part, row in zip(whole, parts, strict=True):
            work.add("Squeeze", node, [part, axes], [row])
    work.sequences[name] = parts


def _construct(work: _Work, node: gs.Node) -> None:
    work.sequences[node.outputs[0].name] = list(node.inputs)


def _place(node: gs.Node, slot: int, length: int, *, default: int) -> int:
    if len(node.inputs) <= slot or node.inputs[slot].is_empty():
        return default
    if not constant(node.inputs[slot]):
        raise _UnknownError("the place in its sequence is computed")
    place = int(node.inputs[slot].values)
    place = place + length if place < 0 else place
    if not 0 <= place <= length:
        raise _UnknownError(f"its sequence of {length} has no place {place}")
    return place


def _at(work: _Work, node: gs.Node) -> None:
    items = work.items(node.inputs[0])
    place = _place(node, 1, len(items), default=0)
    if place >= len(items):
        raise _UnknownError(f"its sequence of {len(items)} has no place {place}")
    work.replace(node, "Identity", [items[place]])


def _insert(work: _Work, node: gs.Node) -> None:
    items = list(work.items(node.inputs[0]))
    items.insert(_place(node, 2, len(items), default=len(items)), node.inputs[1])
    work.sequences[node.outputs[0].name] = items


def _erase(work: _Work, node: gs.Node) -> None:
    items = list(work.items(node.inputs[0]))
    place = _place(node, 1, len(items), default=len(items) - 1)
    work.sequences[node.outputs[0].name] = items[:place] + items[place + 1 :]


def _length(work: _Work, node: gs.Node) -> None:
    out = node.outputs[0]
    stored = gs.Constant(
        fresh_name(work.taken, f"{out.name}.value"), np.array(len(work.items(node.inputs[0])), np.int64)
    )
    work.replace(node, "Identity", [stored])


def _concat(work: _Work, node: gs.Node) -> None:
    items, axis = work.items(node.inputs[0]), int(node.attrs["axis"])
    if node.attrs.get("new_axis", 0):
        name = node.outputs[0].name
        axes, rows = work.stored(f"{name}.axis", [axis]), items
        items = [work.new(f"{name}.row") for _ in rows]
        for row, item in zip(rows, items, strict=True):
            work.add("Unsqueeze", node, [row, axes], [item])
    work.replace(node, "Concat", list(items), axis=axis)


_HANDLERS = {
    "SplitToSequence": _split,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _construct,
    "SequenceAt": _at,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
}
