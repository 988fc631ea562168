"""The graph that a target's tools see: local functions where they are called, and the branch that is always taken.

Every runtime and compiler does so at load, so that what runs are the operators inside.
"""

from __future__ import annotations

from crisp_onnx.format import DOMAIN
from crisp_onnx.model import Model
from crisp_onnx.model.functions import inlined
from crisp_onnx.passes.fold_if import FoldIf


def written_out(model: Model) -> Model:
    """`model` with the operators inside its functions and decided branches in their place; ours stay operators.

    Raises:
        CrispError: a function cannot be written out at the model's opset.
    """
    plain = inlined(model, but=DOMAIN)
    if not any(node.op_type == "If" for node in plain.proto.graph.node):
        return plain
    graph = plain.graph()
    return plain.with_graph(graph) if FoldIf().run(graph).changed else plain
