"""Means and extremes over channels, once some are removed: they stay what they were with zeros in their places."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups import reduced_axes
from crisp_onnx.model import fresh_name
from crisp_onnx.passes.narrowed import Narrowed

EPSILON = 1e-5
"""What ONNX takes where a node says none."""


def reduce_mean(node: gs.Node, narrowed: Narrowed) -> None:
    """The mean over those that are left, times their share."""
    x, y = node.inputs[0], node.outputs[0]
    share = 1.0
    for axis in reduced_axes(node, narrowed.rank(x)) or ():
        share *= narrowed.length(x, axis) / narrowed.shapes[x.name][axis]
    if share == 1:
        return
    node.outputs = [gs.Variable(fresh_name(narrowed.taken, f"{y.name}.left"), y.dtype)]
    narrowed.add("Mul", [node.outputs[0], narrowed.number(y, share)], y)


def reduce_max(node: gs.Node, narrowed: Narrowed) -> None:
    """The greatest of those that are left, but no less than the zero of those that are gone."""
    _with_zero(node, narrowed, ("Relu",))


def reduce_min(node: gs.Node, narrowed: Narrowed) -> None:
    """The least of those that are left, but no more than zero."""
    _with_zero(node, narrowed, ("Neg", "Relu", "Neg"))


def _with_zero(node: gs.Node, narrowed: Narrowed, behind: tuple[str, ...]) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if any(narrowed.loses(x, axis) for axis in reduced_axes(node, narrowed.rank(x)) or ()):
        found = gs.Variable(fresh_name(narrowed.taken, f"{y.name}.left"), y.dtype)
        node.outputs = [found]
        for op in behind[:-1]:
            found = narrowed.add(op, [found])
        narrowed.add(behind[-1], [found], y)


def layer_norm(node: gs.Node, narrowed: Narrowed) -> None:
    """Written out: a channel of zero lies as far from the mean as the mean from zero, and all of them do.

    With C channels, k of them gone: mean = sum(x) / C, variance = sum((x - mean)^2) / C + mean^2 k / C.
    """
    x, y = node.inputs[0], node.outputs[0]
    last = narrowed.rank(x) - 1
    if not narrowed.loses(x, last):
        return
    channels = narrowed.shapes[x.name][last]
    mean = _sum(x, channels, narrowed)
    apart = narrowed.add("Sub", [x, mean])
    around = _sum(narrowed.add("Mul", [apart, apart]), channels, narrowed)
    gone = narrowed.number(x, 1 - narrowed.length(x, last) / channels)
    of_gone = narrowed.add("Mul", [narrowed.add("Mul", [mean, mean]), gone])
    _scaled(node, apart, narrowed.add("Add", [around, of_gone]), narrowed, y)


def rms_norm(node: gs.Node, narrowed: Narrowed) -> None:
    """Written out, as channels of zero add nothing to the sum of squares."""
    x, y = node.inputs[0], node.outputs[0]
    last = narrowed.rank(x) - 1
    if narrowed.loses(x, last):
        squares = _sum(narrowed.add("Mul", [x, x]), narrowed.shapes[x.name][last], narrowed)
        _scaled(node, x, squares, narrowed, y)


def _sum(x: gs.Tensor, channels: int, narrowed: Narrowed) -> gs.Tensor:
    """Over the last axis, divided by so many."""
    total = narrowed.add("ReduceSum", [x, narrowed.number(x, [-1], np.int64)], keepdims=1)
    return narrowed.add("Mul", [total, narrowed.number(x, 1 / channels)])


def _scaled(node: gs.Node, x: gs.Tensor, variance: gs.Tensor, narrowed: Narrowed, y: gs.Tensor) -> None:
    """x / sqrt(variance + epsilon), times the node's scale and plus its shift, in place of the node."""
    epsilon = narrowed.number(x, node.attrs.get("epsilon", EPSILON))
    spread = narrowed.add("Sqrt", [narrowed.add("Add", [variance, epsilon])])
    rows = [row for row in node.inputs[1:] if not row.is_empty()]
    node.outputs.clear()
    plain = narrowed.add("Div", [x, spread])
    for op, row in zip(("Mul", "Add"), rows[:-1], strict=False):
        plain = narrowed.add(op, [plain, row])
    narrowed.add(("Mul", "Add")[len(rows) - 1], [plain, rows[-1]], y)
