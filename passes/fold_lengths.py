"""Say in numbers the lengths that a graph computes from its own shapes, wherever they are the same for every input.

Exporters ask a tensor for its shape, pick lengths and put them together again, in front of every Reshape. What comes
of that for axes that are not open is known; said in numbers it can be stated anew when channels go. Open lengths stay
open: a Reshape copies or infers them, an Expand or a Resize still asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import PassResult, constant

Length: TypeAlias = int | str | None
"""A number, the name of an open dimension, or None where nothing is known."""
Lengths: TypeAlias = npt.NDArray[np.object_]
MOST = 64
STATED = {"Reshape": 1, "Expand": 1, "Resize": 3}


class FoldLengths:
    """Shape arithmetic that comes to numbers becomes these; targets that come to some of them state those."""

    name = "fold_lengths"

    def run(self, graph: gs.Graph) -> PassResult:
        graph.toposort()
        known = _Known()
        taken, changed = used_names(graph), 0
        shown = {id(tensor) for tensor in graph.outputs}
        for node in list(graph.nodes):
            place = STATED.get(node.op, 0)
            if place and len(node.inputs) > place and not constant(node.inputs[place]):
                changed += _state(graph, node, place, known, taken)
            for out in node.outputs:
                values = known.lengths(out) if node.op in _RULES and out.dtype is not None else None
                if values is None or id(out) in shown or not out.outputs or not _numbers(values):
                    continue
                node.outputs.clear()
                out.to_constant(values.astype(np.int64).astype(np.dtype(out.dtype)))
                changed += 1
        return PassResult(changed)


def _state(graph: gs.Graph, node: gs.Node, place: int, known: _Known, taken: set[str]) -> int:
    """Give a node lengths in numbers, but for those that are open; 0 where too little is known."""
    wanted = known.lengths(node.inputs[place])
    if wanted is None or wanted.ndim != 1 or _numbers(wanted):
        return 0
    shape = node.inputs[0].shape
    names: list[Length] = [side if isinstance(side, (int, str)) else None for side in shape] if shape else []
    if node.op == "Reshape":
        target = _target(list(wanted), names, copies=not node.attrs.get("allowzero", 0))
        if target is None:
            return 0
        node.inputs[place] = gs.Constant(fresh_name(taken, f"{node.inputs[place].name}.lengths"), np.array(target))
        return 1
    for asked in (node.inputs[0], *graph.inputs):  # what is expanded may have no open length of its own
        names = [side if isinstance(side, (int, str)) else None for side in asked.shape or ()]
        if all(isinstance(one, int) or (one and one in names) for one in wanted):
            node.inputs[place] = _joined(graph, asked, list(wanted), names, taken)
            return 1
    return 0


def _target(wanted: list[Length], names: list[Length], *, copies: bool) -> list[int] | None:
    """The target of a Reshape: 0 copies the length of the input's axis, -1 is inferred."""
    target: list[int] = []
    for axis, one in enumerate(wanted):
        if isinstance(one, int):
            target.append(one)
        elif copies and one and axis < len(names) and names[axis] == one:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None


def _joined(graph: gs.Graph, x: gs.Tensor, wanted: list[Length], names: list[Length], taken: set[str]) -> gs.Variable:
    """A Concat of numbers and of the open lengths of `x`, each picked out of its Shape by itself."""
    shape = gs.Variable(fresh_name(taken, f"{x.name}.shape"), np.int64)
    graph.nodes.append(gs.Node("Shape", shape.name, inputs=[x], outputs=[shape]))
    pieces: list[gs.Tensor] = []
    for one in wanted:
        if isinstance(one, int):
            pieces.append(gs.Constant(fresh_name(taken, f"{x.name}.length"), np.array([one], np.int64)))
            continue
        at = gs.Constant(fresh_name(taken, f"{x.name}.axis"), np.array([names.index(one)], np.int64))
        picked = gs.Variable(fresh_name(taken, f"{x.name}.length"), np.int64)
        graph.nodes.append(gs.Node("Gather", picked.name, {"axis": 0}, inputs=[shape, at], outputs=[picked]))
        pieces.append(picked)
    joined = gs.Variable(fresh_name(taken, f"{x.name}.lengths"), np.int64)
    graph.nodes.append(gs.Node("Concat", joined.name, {"axis": 0}, inputs=pieces, outputs=[joined]))
    return joined


def _numbers(values: Lengths) -> bool:
    return all(isinstance(one, (int, np.integer)) for one in values.reshape(-1))


class _Known:
    """Values of small whole-number tensors, as far as they follow from shapes."""

    def __init__(self) -> None:
        self._found: dict[int, Lengths | None] = {}

    def lengths(self, tensor: gs.Tensor) -> Lengths | None:
        if id(tensor) not in self._found:
            self._found[id(tensor)] = self._compute(tensor)
        return self._found[id(tensor)]

    def _compute(self, tensor: gs.Tensor) -> Lengths | None:
        if isinstance(tensor, gs.Constant):
            small = tensor.values.dtype.kind in "iub" and tensor.values.size <= MOST
            return _objects(tensor.values) if small else None
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or node.op not in _RULES or node.domain not in (None, "", "ai.onnx") or len(node.outputs) != 1:
            return None
        asked = [] if node.op == "Shape" else node.inputs
        inputs = [None if one.is_empty() else self.lengths(one) for one in asked]
        known = [one for one in inputs if one is not None]
        try:
            return _RULES[node.op](node, known) if len(known) == len(inputs) else None
        except (IndexError, TypeError, ValueError, ZeroDivisionError):
            return None


def _objects(values: npt.ArrayLike) -> Lengths:
    plain = np.asarray(values)
    found = np.empty(plain.shape, object)
    for place in np.ndindex(plain.shape):
        found[place] = int(plain[place])
    return found


def _shape(node: gs.Node, _: list[Lengths]) -> Lengths | None:
    shape = node.inputs[0].shape
    if shape is None:
        return None
    sides = [side if isinstance(side, (int, str)) and side != "" else None for side in shape]
    return np.array(sides[slice(node.attrs.get("start", 0), node.attrs.get("end"))], object)


def _gather(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    data, at = inputs
    return None if node.attrs.get("axis", 0) else np.asarray(data.take(at.astype(np.int64)), object)


def _slice(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    data, *told = inputs
    starts, ends = (int(one.reshape(-1)[0]) for one in told[:2])
    step = int(told[3].reshape(-1)[0]) if len(told) > 3 else 1
    return data[starts:ends:step] if data.ndim == 1 else None


def _reshaped(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    """Squeeze, Unsqueeze and Reshape between a number and a list of one."""
    data = inputs[0]
    if node.op == "Reshape":
        return data.reshape([int(side) for side in inputs[1].reshape(-1)])
    if node.op == "Identity":
        return data
    if data.shape != (() if node.op == "Unsqueeze" else (1,)):
        return None
    return data.reshape([1] if node.op == "Unsqueeze" else [])


def _cast(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    """To whole numbers, or to floats where all are known."""
    return inputs[0] if node.attrs["to"] in (6, 7) or _numbers(inputs[0]) else None


def _by_element(compute: Callable[[int, int], int]) -> Callable[[gs.Node, list[Lengths]], Lengths | None]:
    def run(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
        one, other = np.broadcast_arrays(*inputs)
        found = np.empty(one.shape, object)
        for place in np.ndindex(one.shape):
            a, b = one[place], other[place]
            found[place] = compute(a, b) if isinstance(a, int) and isinstance(b, int) else None
        return found

    return run


def _equal(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    """An open length is above zero, whatever it is."""
    one, other = np.broadcast_arrays(*inputs)
    found = np.empty(one.shape, object)
    for place in np.ndindex(one.shape):
        a, b = one[place], other[place]
        numbers = [side for side in (a, b) if isinstance(side, int)]
        if len(numbers) == 2:
            found[place] = int(a == b)
        elif len(numbers) == 1 and numbers[0] < 1 and None not in (a, b):
            found[place] = 0
        else:
            found[place] = int(True) if a is not None and a == b else None
    return found


def _where(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    test, one, other = np.broadcast_arrays(*inputs)
    found = np.empty(test.shape, object)
    for place in np.ndindex(test.shape):
        found[place] = None if test[place] is None else one[place] if test[place] else other[place]
    return found


def _filled(node: gs.Node, inputs: list[Lengths]) -> Lengths | None:
    value = np.asarray(getattr(node.attrs.get("value"), "values", 0.0)).reshape(-1)
    if value.dtype.kind not in "iu":
        return None
    number = int(value[0])
    sides = [int(side) for side in inputs[0].reshape(-1)]
    return _objects(np.full(sides, number)) if np.prod(sides) <= MOST else None


_RULES: Mapping[str, Callable[[gs.Node, list[Lengths]], Lengths | None]] = {
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": lambda node, inputs: np.concatenate(inputs),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Reshape", "Identity"), _reshaped),
    "Cast": _cast,
    "Add": _by_element(lambda a, b: a + b),
    "Sub": _by_element(lambda a, b: a - b),
    "Mul": _by_element(lambda a, b: a * b),
    "Div": _by_element(lambda a, b: a // b if a >= 0 and b > 0 else int(a / b)),
    "Equal": _equal,
    "Where": _where,
    "ConstantOfShape": _filled,
}
