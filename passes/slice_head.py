"""Cut the classifier down to the user's classes: fewer rows, fewer columns, in the order of the class list.

The class axis is followed from the classifier to the outputs; every stored value with an entry a class is cut along it.
A node behind the classifier that does anything else with the class axis is refused, and nothing is changed then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.result import Declined, PassResult, constant
from crisp_onnx.task import Head

_ELEMENTWISE = frozenset(
    {"Identity", "Cast", "Dropout", "Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "Tanh", "Softplus"}
    | {"Exp", "Log", "Neg", "Abs", "Sqrt", "Reciprocal", "Erf", "HardSwish", "Clip", "Softmax", "LogSoftmax"}
    | {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu"}
)
_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"})
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceLogSumExp", "ReduceL1", "ReduceL2", "ReduceSumSquare"}
)
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


class SliceHead:
    """Keep the rows `indices` of the classifier of `head`, and everything per class behind it.

    `shapes`: of the graph's tensors, for one image or the batch that the file fixes.
    """

    name = "slice_head"

    def __init__(self, head: Head, indices: Sequence[int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.head, self.indices, self.shapes = head, list(indices), shapes

    def run(self, graph: gs.Graph) -> PassResult:
        graph.toposort()
        cut = _Cut(self.head.classes, self.indices, self.shapes)
        try:
            self._follow(graph, cut)
        except _Unclear as reason:
            return PassResult(0, (Declined(self.name, reason.node, str(reason)),))
        cut.apply(graph)
        return PassResult(1)

    def _follow(self, graph: gs.Graph, cut: _Cut) -> None:
        if not self.head.classifier:
            raise _Unclear(self.head.output, "no layer was found whose rows are the classes")
        if max(self.indices) >= self.head.classes:
            raise _Unclear(self.head.output, f"class {max(self.indices)} is not one of its {self.head.classes}")
        for node in graph.nodes:
            if node.name in self.head.classifier:
                cut.classifier(node)
            elif any(id(tensor) in cut.axes for tensor in node.inputs):
                cut.through(node)
        output = next(tensor for tensor in graph.outputs if tensor.name == self.head.output)
        if id(output) not in cut.axes:
            raise _Unclear(self.head.output, "the classes of the last layer do not reach the output")


class _Unclear(Exception):
    """Why the class axis cannot be followed through the node of that name."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(reason)
        self.node = node


@dataclass
class _Cut:
    """What is to be cut. `axes`: the class axis by id of a tensor; `edits`: node, place of an input, its new value."""

    classes: int
    indices: list[int]
    shapes: Mapping[str, tuple[int, ...]]
    axes: dict[int, int] = field(default_factory=dict)
    tensors: list[gs.Tensor] = field(default_factory=list)
    edits: list[tuple[gs.Node, int, np.ndarray]] = field(default_factory=list)

    def classifier(self, node: gs.Node) -> None:
        """Cut the rows of the weight and of the bias."""
        if not constant(node.inputs[1]):
            raise _Unclear(node.name, f"a caller may override its weight {node.inputs[1].name!r}")
        weight = node.inputs[1].values
        last = node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0))
        axis = weight.ndim - 1 if last else 0
        if weight.shape[axis] != self.classes:
            raise _Unclear(node.name, f"it has {weight.shape[axis]} rows, the output {self.classes} columns")
        if node.op == "Conv" and int(node.attrs.get("group", 1)) != 1:
            raise _Unclear(node.name, "it is a grouped convolution")
        self.edits.append((node, 1, weight.take(self.indices, axis)))
        rank = len(self._shape(node.outputs[0], node))
        out = 1 if node.op in ("Conv", "Gemm") else rank - 1
        for place, tensor in enumerate(node.inputs):
            if place > 1 and not tensor.is_empty():
                # The bias of a Conv is its only axis; that of a Gemm lines up with the columns of the result.
                self._other(node, place, 0 if node.op == "Conv" else out - rank)
        self._put(node.outputs[0], out)

    def through(self, node: gs.Node) -> None:
        """Follow the class axis through a node that reads a tensor with classes."""
        if node.op in ("Shape", "Size"):
            return
        source = next(tensor for tensor in node.inputs if id(tensor) in self.axes)
        axis, shape = self.axes[id(source)], self._shape(source, node)
        if node.op in _ELEMENTWISE:
            self._elementwise(node, source, axis - len(shape))
        elif node.op in _POOLS and axis == 1:
            self._put(node.outputs[0], 1)
        elif node.op == "BatchNormalization" and axis == 1:
            for place in range(1, 5):
                self._other(node, place, 0)
            self._put(node.outputs[0], 1)
        elif node.op == "Transpose":
            order = list(node.attrs.get("perm", range(len(shape))[::-1]))
            self._put(node.outputs[0], order.index(axis))
        elif node.op in _RESHAPES and node.inputs[0] is source:
            self._reshape(node, axis, shape)
        elif node.op in _REDUCTIONS or node.op in ("ArgMax", "ArgMin"):
            self._reduce(node, axis, shape)
        elif node.op == "TopK" and self._top(node) <= len(self.indices):
            if int(node.attrs.get("axis", -1)) % len(shape) != axis:
                raise _Unclear(node.name, "TopK sorts something else than the classes")
        else:
            raise _Unclear(node.name, f"what {node.op} makes of the classes is not understood")

    def apply(self, graph: gs.Graph) -> None:
        """Put the cut values in the place of the whole ones, and the new lengths into the shapes."""
        taken = tensor_names(graph)
        for node, place, values in self.edits:
            old = node.inputs[place]
            name = old.name if len(old.outputs) == 1 else fresh_name(taken, f"{old.name}.sliced")
            node.inputs[place] = gs.Constant(name, np.ascontiguousarray(values))
        for tensor in self.tensors:
            if tensor.shape:
                # Counted from the end: a Squeeze of one image alone loses the axis of the images.
                axis = self.axes[id(tensor)] - len(self.shapes.get(tensor.name, tensor.shape))
                tensor.shape = [*tensor.shape[:axis], len(self.indices), *tensor.shape[len(tensor.shape) + axis + 1 :]]

    def _elementwise(self, node: gs.Node, source: gs.Tensor, axis: int) -> None:
        """`axis` counts from the end, as tensors of several ranks line up there."""
        if node.op in ("Softmax", "LogSoftmax", "Clip", "Dropout"):  # their other inputs are single numbers
            others: list[int] = []
        else:
            others = [place for place, tensor in enumerate(node.inputs) if tensor is not source]
        for place in others:
            self._other(node, place, axis)
        rank = len(self._shape(node.outputs[0], node))
        self._put(node.outputs[0], rank + axis)

    def _other(self, node: gs.Node, place: int, axis: int) -> None:
        """Another input of a node, whose `axis` lines up with the classes: cut, or the same for all classes."""
        tensor = node.inputs[place]
        shape = tuple(tensor.values.shape) if constant(tensor) else self._shape(tensor, node)
        if axis < 0:
            axis += len(shape)
        side = shape[axis] if 0 <= axis < len(shape) else 1
        if constant(tensor) and side == self.classes:
            self.edits.append((node, place, tensor.values.take(self.indices, axis)))
        elif self.axes.get(id(tensor), axis) != axis or (side != 1 and id(tensor) not in self.axes):
            kind = "constant" if constant(tensor) else "tensor"
            raise _Unclear(node.name, f"{kind} {tensor.name!r} {shape} is not understood per class")

    def _reshape(self, node: gs.Node, axis: int, before: tuple[int, ...]) -> None:
        """The axis before which as many numbers lie as before; a stored target shape is cut with it."""
        after = self._shape(node.outputs[0], node)
        ahead = prod(before[:axis])
        fits = [i for i, side in enumerate(after) if side == self.classes and prod(after[:i]) == ahead]
        if not fits:
            raise _Unclear(node.name, f"{node.op} from {before} to {after} does not keep the {self.classes} classes")
        if node.op == "Reshape":
            target = node.inputs[1]
            if not constant(target):
                if self.classes in _numbers_behind(target):
                    raise _Unclear(node.name, f"the target of its Reshape is computed with the number {self.classes}")
            elif int(target.values.reshape(-1)[fits[0]]) > 0:
                values = target.values.copy()
                values.reshape(-1)[fits[0]] = len(self.indices)
                self.edits.append((node, 1, values))
        self._put(node.outputs[0], fits[0])

    def _reduce(self, node: gs.Node, axis: int, shape: tuple[int, ...]) -> None:
        """Taken together over the classes, a tensor has none; over other axes, the class axis may move."""
        keeps = bool(node.attrs.get("keepdims", 1))
        axes = self._reduced(node, shape)
        if axis not in axes:
            self._put(node.outputs[0], axis if keeps else axis - sum(other < axis for other in axes))

    def _reduced(self, node: gs.Node, shape: tuple[int, ...]) -> set[int]:
        if node.op in ("ArgMax", "ArgMin"):
            return {int(node.attrs.get("axis", 0)) % len(shape)}
        if "axes" in node.attrs:
            stored = node.attrs["axes"]
        elif len(node.inputs) > 1 and not node.inputs[1].is_empty():
            if not constant(node.inputs[1]):
                raise _Unclear(node.name, "the axes that it reduces are computed")
            stored = node.inputs[1].values.reshape(-1).tolist()
        else:
            stored = range(len(shape))
        return {int(axis) % len(shape) for axis in stored}

    def _top(self, node: gs.Node) -> int:
        if not constant(node.inputs[1]):
            raise _Unclear(node.name, "how many classes TopK takes is computed")
        return int(node.inputs[1].values.reshape(-1)[0])

    def _shape(self, tensor: gs.Tensor, node: gs.Node) -> tuple[int, ...]:
        if tensor.name not in self.shapes:
            raise _Unclear(node.name, f"the shape of {tensor.name!r} is not known")
        return self.shapes[tensor.name]

    def _put(self, tensor: gs.Tensor, axis: int) -> None:
        shape = self.shapes.get(tensor.name)
        if shape is not None and not (0 <= axis < len(shape) and shape[axis] == self.classes):
            raise _Unclear(tensor.name, f"axis {axis} of {shape} does not hold the {self.classes} classes")
        self.axes[id(tensor)] = axis
        self.tensors.append(tensor)


def _numbers_behind(tensor: gs.Tensor) -> set[int]:
    """Stored whole numbers that a computed tensor of sizes is made of, up to the shapes that it is taken from."""
    waiting, found = list(tensor.inputs), set()
    while waiting:
        node = waiting.pop()
        for source in node.inputs if node.op != "Shape" else ():
            if constant(source):
                found |= {int(value) for value in source.values.reshape(-1) if np.isfinite(value)}
            waiting += source.inputs
    return found
