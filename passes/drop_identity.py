"""Remove nodes that do nothing at inference: Identity, Dropout, and Cast to the type that a tensor has."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx.helper import np_dtype_to_tensor_dtype

from crisp_onnx.passes.result import Declined, PassResult, constant, read_instead


class DropIdentity:
    """Let the consumers of an idle node read its input."""

    name = "drop_identity"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        for node in list(graph.nodes):
            if node.domain not in (None, "", "ai.onnx") or not _is_idle(node):
                continue
            source, out = node.inputs[0], node.outputs[0]
            if node.op == "Dropout" and _mask_used(graph, node):
                declined.append(Declined(self.name, node.name, "its mask output is used"))
            elif node.op == "Dropout" and _may_train(node):
                declined.append(Declined(self.name, node.name, "it drops values at inference too (training_mode)"))
            elif any(out is o for o in graph.outputs):
                # The graph's output must keep its name, so the node stays.
                declined.append(Declined(self.name, node.name, "it writes a graph output"))
            else:
                read_instead(out, source)
                node.outputs.clear()
                changed += 1
        return PassResult(changed, tuple(declined))


def _is_idle(node: gs.Node) -> bool:
    if node.op != "Cast":
        return node.op in ("Identity", "Dropout")
    kind = node.inputs[0].dtype
    return kind is not None and node.attrs["to"] == (
        kind if isinstance(kind, int) else np_dtype_to_tensor_dtype(np.dtype(kind))
    )


def _mask_used(graph: gs.Graph, node: gs.Node) -> bool:
    masks = list(node.outputs)[1:]
    return any(mask.outputs or any(mask is out for out in graph.outputs) for mask in masks)


def _may_train(node: gs.Node) -> bool:
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        return False
    return not constant(node.inputs[2]) or bool(node.inputs[2].values)
