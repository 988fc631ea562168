"""Write the axes that a Squeeze without axes drops, so that one image keeps its batch axis.

Without axes every axis of length one goes: a batch of two images gives two rows, a single image gives a bare vector.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.result import Declined, PassResult


class ExplicitAxes:
    """Squeeze of a tensor whose shape is known but for its batch."""

    name = "explicit_axes"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined, taken = 0, [], tensor_names(graph)
        for node in graph.nodes:
            if node.op != "Squeeze" or node.domain not in (None, "", "ai.onnx") or _has_axes(node):
                continue
            shape = node.inputs[0].shape
            if not shape or not all(isinstance(side, int) for side in shape[1:]):
                declined.append(Declined(self.name, node.name, "it drops axes of an unknown shape"))
                continue
            axes = np.array([axis for axis, side in enumerate(shape) if side == 1], np.int64)
            name = fresh_name(taken, f"{node.outputs[0].name}.axes")
            node.inputs = [node.inputs[0], gs.Constant(name, axes)]
            changed += 1
        return PassResult(changed, tuple(declined))


def _has_axes(node: gs.Node) -> bool:
    return "axes" in node.attrs or (len(node.inputs) > 1 and not node.inputs[1].is_empty())
