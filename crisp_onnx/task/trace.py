"""Go back from an output of a graph: to its activation, to the layers whose rows are its columns, to all behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_graphsurgeon as gs

from crisp_onnx.model.layers import WEIGHT_OPS
from crisp_onnx.task.activation import Activation, activation_of
from crisp_onnx.task.head import Head

# Operators that move or retype numbers and keep one column a class.
_MOVING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout"})
# Operators that take means of their inputs.
_POOLING = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean", "Resize", "Upsample"})
_SCALING = frozenset({"Mul", "Div", "Add", "Sub", "Clip"})
_MEASURING = frozenset({"Shape", "Size"})


def layers_behind(graph: gs.Graph, names: Sequence[str]) -> frozenset[str]:
    """Names of the nodes that the tensors of those names are computed from."""
    tensors = graph.tensors()
    waiting, found = [node for name in names for node in tensors[name].inputs], set()
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found.add(node.name)
            waiting += [producer for tensor in node.inputs for producer in tensor.inputs]
    return frozenset(found)


def activation_before(tensor: gs.Tensor) -> tuple[Activation | None, bool]:
    """The activation behind moving, rising scales and pooling, and whether there was pooling."""
    pooled = False
    while True:
        found = activation_of(tensor)
        if found is not None:
            return found, pooled
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None:
            return None, pooled
        pooled |= node.op in _POOLING
        if not (node.op in _MOVING | _POOLING or _rises(node)):
            return None, pooled
        tensor = next((i for i in node.inputs if i.inputs), node.inputs[0])


def _rises(node: gs.Node) -> bool:
    """Whether the node combines one tensor with stored single numbers in a way that keeps the order of its values."""
    if node.op not in _SCALING or sum(not isinstance(i, gs.Constant) for i in node.inputs if not i.is_empty()) != 1:
        return False
    stored = [i.values for i in node.inputs if isinstance(i, gs.Constant)]
    if any(values.size != 1 for values in stored):
        return False
    if node.op in ("Div", "Sub") and isinstance(node.inputs[0], gs.Constant):
        return False
    return node.op not in ("Mul", "Div") or all(float(values.reshape(())) > 0 for values in stored)


def moved_from(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor whose numbers these are, before they were moved or retyped."""
    while tensor.inputs and tensor.inputs[0].op in _MOVING:
        tensor = tensor.inputs[0].inputs[0]
    return tensor


def classifier_of(tensor: gs.Tensor, classes: int) -> list[gs.Node]:
    """The layers whose rows are the classes: of those met first on the ways back, the ones of as many rows.

    Layers that together have as many rows, one after the other, are a classifier in parts.
    """
    first = list(first_layers(tensor))
    whole = [node for node in first if _rows(node) == classes]
    if whole:
        return whole
    return first if sum(map(_rows, first)) == classes else []


def first_layers(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """Weight layers met first on every way back from `tensor`, in the order of finding."""
    waiting, seen = [tensor], set()
    while waiting:
        node = next(iter(waiting.pop(0).inputs), None)
        if node is None or id(node) in seen or node.op in _MEASURING:
            continue
        seen.add(id(node))
        if _is_layer(node):
            yield node
        else:
            waiting += node.inputs


def feeds(tensor: gs.Tensor, head: Head, other: Head, layers: Mapping[str, gs.Node]) -> bool:
    """Whether what `head` is made of goes into the classifier of `other`."""
    if set(head.classifier) & set(other.classifier):
        return False
    behind: set[int] = set()
    waiting = [layers[name].inputs[0] for name in other.classifier]
    while waiting:
        tensor_behind = waiting.pop()
        if id(tensor_behind) in behind:
            continue
        behind.add(id(tensor_behind))
        waiting += [i for node in tensor_behind.inputs for i in node.inputs]
    own = list(first_layers(tensor))
    if not behind:
        return False
    return id(moved_from(tensor)) in behind or (bool(own) and all(id(n.outputs[0]) in behind for n in own))


def _is_layer(node: gs.Node) -> bool:
    """Whether its weight is stored. A caller may override one that is an input of the graph too."""
    if node.op not in WEIGHT_OPS or len(node.inputs) < 2:
        return False
    weight = node.inputs[1]
    return not weight.inputs and bool(weight.shape) and all(isinstance(side, int) for side in weight.shape)


def _rows(node: gs.Node) -> int:
    dims = node.inputs[1].shape
    return int(dims[-1] if node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0)) else dims[0])
