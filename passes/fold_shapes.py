"""Compute what asks for shapes that are known, where a decision hangs on it: an If, or how long a sequence is.

Elsewhere shape arithmetic stays: it is what lets a graph take other batches and sizes.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.passes.result import PassResult, constant

DECIDING = ("If", "SplitToSequence", "SequenceAt", "SequenceInsert", "SequenceErase")


class FoldShapes:
    """Shape, and Gather or Slice of a Shape, become constants where every length that they give is known."""

    name = "fold_shapes"

    def run(self, graph: gs.Graph) -> PassResult:
        changed = 0
        asked = _upstream(graph)
        for node in list(graph.nodes):
            if node.op != "Shape" or id(node) not in asked or any(node.outputs[0] is out for out in graph.outputs):
                continue
            lengths = _lengths(node)
            if lengths is None:
                continue
            places = [node.outputs[0], *(reader.outputs[0] for reader in _pickers(node.outputs[0]))]
            for tensor in places:
                values = _values(tensor.inputs[0], lengths)
                if values is not None and not any(tensor is out for out in graph.outputs):
                    tensor.inputs[0].inputs.clear()
                    tensor.inputs.clear()
                    tensor.to_constant(values)
                    changed += 1
        return PassResult(changed)


def _upstream(graph: gs.Graph) -> set[int]:
    """Nodes that a decision depends on."""
    waiting = [
        tensor
        for node in graph.nodes
        if node.op in DECIDING
        for tensor in (node.inputs[:1] if node.op == "If" else node.inputs[1:])
    ]
    found: set[int] = set()
    while waiting:
        for node in waiting.pop().inputs:
            if id(node) not in found:
                found.add(id(node))
                waiting += node.inputs
    return found


def _lengths(node: gs.Node) -> list[int | None] | None:
    """What the Shape node gives, None for a length that is not known; None where not even the rank is."""
    shape = node.inputs[0].shape
    if shape is None:
        return None
    part = list(shape)[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
    return [side if isinstance(side, int) else None for side in part]


def _pickers(tensor: gs.Tensor) -> list[gs.Node]:
    return [reader for reader in tensor.outputs if reader.op in ("Gather", "Slice") and reader.inputs[0] is tensor]


def _values(node: gs.Node, lengths: list[int | None]) -> np.ndarray | None:
    """The node's result, or None where it takes a length that is not known."""
    if node.op == "Shape":
        picked = lengths
    elif not all(constant(tensor) for tensor in list(node.inputs)[1:]) or node.attrs.get("axis", 0) not in (0, -1):
        return None
    elif node.op == "Gather":
        places = node.inputs[1].values
        if any(not -len(lengths) <= int(place) < len(lengths) for place in places.reshape(-1)):
            return None
        picked = [lengths[int(place)] for place in places.reshape(-1)]
        return None if None in picked else np.array(picked, np.int64).reshape(places.shape)
    else:
        starts, ends, *more = ([int(v) for v in tensor.values.reshape(-1)] for tensor in list(node.inputs)[1:])
        step = more[1][0] if len(more) > 1 else 1
        picked = lengths[starts[0] : ends[0] : step] if step else [None]
    return None if None in picked else np.array(picked, np.int64)
