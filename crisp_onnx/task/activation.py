"""Recognise what turns scores into shares: Softmax, its logarithm and Sigmoid, as one operator or written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import onnx_graphsurgeon as gs

Kind = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, eq=False)
class Activation:
    """`logits` is what the activation is computed from. `log`: its result is the logarithm of the shares.

    `axes`: the axes over which a softmax adds up to 1, as the file writes them; None for those of a sigmoid, which has
    none, and for axes that are not stored.
    """

    kind: Kind
    log: bool
    logits: gs.Tensor
    axes: tuple[int, ...] | None


def activation_of(tensor: gs.Tensor) -> Activation | None:
    """The activation whose result `tensor` is, or None.

    Log of shares, and Exp of their logarithm, are activations too, however many of them follow each other.
    """
    node, behind = _producer(tensor), list[str]()
    while node is not None and node.op in ("Log", "Exp"):
        behind.append(node.op)
        node = _producer(node.inputs[0])
    found = None if node is None or node.op not in _READERS else _READERS[node.op](node)
    for op in reversed(behind):
        if found is None or found.log == (op == "Log"):
            return None
        found = replace(found, log=not found.log)
    return found


def _softmax(node: gs.Node) -> Activation:
    return Activation("softmax", node.op == "LogSoftmax", node.inputs[0], (int(node.attrs.get("axis", -1)),))


def _sigmoid(node: gs.Node) -> Activation:
    return Activation("sigmoid", False, node.inputs[0], None)


def _ratio(node: gs.Node) -> Activation | None:
    """`exp(z) / sum(exp(z))`, or `1 / (1 + exp(-z))`."""
    return _share(node.inputs[0], node.inputs[1]) or _inverse(node.inputs[0], node.inputs[1])


def _product(node: gs.Node) -> Activation | None:
    """`exp(z) * (1 / sum(exp(z)))`, in either order."""
    for first, second in (list(node.inputs), list(node.inputs)[::-1]):
        inverse = _producer(second)
        if inverse is not None and inverse.op == "Reciprocal" and (found := _share(first, inverse.inputs[0])):
            return found
    return None


def _reciprocal(node: gs.Node) -> Activation | None:
    """`1 / (1 + exp(-z))`."""
    return _inverse(None, node.inputs[0])


def _difference(node: gs.Node) -> Activation | None:
    """`z - log(sum(exp(z)))`, or `z - ReduceLogSumExp(z)`."""
    scores, norm = node.inputs[0], _producer(node.inputs[1])
    if norm is not None and norm.op == "ReduceLogSumExp" and norm.inputs[0] is scores:
        return Activation("softmax", True, _unshifted(scores), _axes(norm))
    total = _producer(norm.inputs[0]) if norm is not None and norm.op == "Log" else None
    if total is None or total.op != "ReduceSum":
        return None
    powers = _producer(total.inputs[0])
    if powers is None or powers.op != "Exp" or powers.inputs[0] is not scores:
        return None
    return Activation("softmax", True, _unshifted(scores), _axes(total))


_READERS: dict[str, Callable[[gs.Node], Activation | None]] = {
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Sigmoid": _sigmoid,
    "Div": _ratio,
    "Mul": _product,
    "Reciprocal": _reciprocal,
    "Sub": _difference,
}


def _share(powers: gs.Tensor, total: gs.Tensor) -> Activation | None:
    """A softmax, if `powers` are exponentials and `total` their sum, held away from zero or not."""
    exponential, added = _producer(powers), _producer(total)
    while added is not None and added.op in ("Add", "Max", "Clip", "Expand"):
        added = _producer(next((i for i in added.inputs if not isinstance(i, gs.Constant)), added.inputs[0]))
    if exponential is None or exponential.op != "Exp" or added is None or added.op != "ReduceSum":
        return None
    if added.inputs[0] is not powers:
        return None
    return Activation("softmax", False, _unshifted(exponential.inputs[0]), _axes(added))


def _inverse(one: gs.Tensor | None, total: gs.Tensor) -> Activation | None:
    """A sigmoid, if `one` is 1 and `total` is 1 + exp(-z)."""
    added = _producer(total)
    if (one is not None and not _is_one(one)) or added is None or added.op != "Add":
        return None
    powers = next((_producer(i) for i in added.inputs if not isinstance(i, gs.Constant)), None)
    if powers is None or powers.op != "Exp" or not any(_is_one(i) for i in added.inputs):
        return None
    negated = _producer(powers.inputs[0])
    return (
        Activation("sigmoid", False, negated.inputs[0], None) if negated is not None and negated.op == "Neg" else None
    )


def _unshifted(scores: gs.Tensor) -> gs.Tensor:
    """The scores before their largest was subtracted for the sake of rounding."""
    node = _producer(scores)
    if node is None or node.op != "Sub":
        return scores
    largest = _producer(node.inputs[1])
    shifted = largest is not None and largest.op == "ReduceMax" and largest.inputs[0] is node.inputs[0]
    return node.inputs[0] if shifted else scores


def _axes(node: gs.Node) -> tuple[int, ...] | None:
    """The axes that a reduction takes together: an attribute in older opsets, an input in newer ones."""
    if "axes" in node.attrs:
        return tuple(int(axis) for axis in node.attrs["axes"])
    if len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        return tuple(int(axis) for axis in node.inputs[1].values.reshape(-1))
    return None


def _producer(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def _is_one(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and bool((tensor.values == 1).all())
