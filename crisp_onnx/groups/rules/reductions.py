"""Sums, means and extremes over axes: channels that end there may change places, and most may be removed.

A mean over channels, or the greatest of them, stays what it is with zeros in place once some are gone:
`passes/restate_norms.py` divides by as many as before, and lets a zero take part.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups.rules.stated import stated_axes
from crisp_onnx.groups.ties import NodeTies

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_OF_ZERO_NOTHING = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
_RESTATED = ("ReduceMean", "ReduceMax", "ReduceMin")
"""Reductions whose result is the same without a channel that is zero, and those that can be put right."""


def reduction(node: gs.Node, ties: NodeTies) -> None:
    """ReduceMean and its kin: the reduced axes end here, in any order; the others go on."""
    x, y = node.inputs[0], node.outputs[0]
    rank = len(ties.shape(x))
    reduced = reduced_axes(node, rank)
    if reduced is None:
        return
    same = node.op in _OF_ZERO_NOTHING or (node.op in _RESTATED and not _counts(x))
    left = [axis for axis in range(rank) if axis not in reduced or node.attrs.get("keepdims", 1)]
    for axis in range(rank):
        if axis not in reduced:
            ties.tie((x, axis), (y, left.index(axis)))
            continue
        ties.ignore(x, axis)
        if not same and ties.shape(x)[axis] > 1:
            ties.keep(x, axis, "its result is one over all channels")
    if len(node.inputs) > 1:
        ties.ignore(node.inputs[1])


def _counts(x: gs.Tensor) -> bool:
    """Whether it holds whole numbers, which the operators that put a reduction right do not take."""
    return x.dtype is not None and np.dtype(x.dtype).kind in "iub"


def reduced_axes(node: gs.Node, rank: int) -> set[int] | None:
    """The axes that are named, all where none is; None where they are computed."""
    told = stated_axes(node, rank)
    return told if told or told is None or node.attrs.get("noop_with_empty_axes", 0) else set(range(rank))
