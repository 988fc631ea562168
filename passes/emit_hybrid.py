"""Replace every layer that the plan made sparse by its hybrid operator, its weight by the packed tensors."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format import OPERATORS, encode, hybrid_name
from crisp_onnx.format.node import HybridNode, Window, base_name, bias_name, rewrite
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.result import Declined, PassResult, constant


class EmitHybrid:
    """Conv becomes HybridConv, Gemm and MatMul become HybridGemm; names of nodes and outputs stay."""

    name = "emit_hybrid"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def run(self, graph: gs.Graph) -> PassResult:
        nodes = {node.name: node for node in graph.nodes}
        taken = tensor_names(graph)
        changed, declined = 0, []
        for sparse in self.plan.sparse():
            node = nodes[sparse.layer.name]
            if len(node.inputs) > 2 and not node.inputs[2].is_empty() and not constant(node.inputs[2]):
                declined.append(Declined(self.name, node.name, "its bias is computed, not stored"))
                continue
            _rewrite(node, sparse, taken)
            changed += 1
        return PassResult(changed, tuple(declined))


def _rewrite(node: gs.Node, sparse: SparseLayer, taken: set[str]) -> None:
    layer, pattern = sparse.layer, sparse.pattern
    tensors = encode(layer.matrix(node.inputs[1].values), sparse.mask, sparse.kept, pattern)
    operator = OPERATORS[hybrid_name(node.op)]
    base = base_name(taken, layer.weight)
    hybrid = HybridNode(operator, pattern, layer.shape, _window(node) if operator.product == "conv" else None)
    rewrite(node, hybrid, base, tensors, _bias(node, layer.shape[0], base, taken))


def _window(node: gs.Node) -> Window:
    strides, dilations = (tuple(node.attrs.get(key, (1, 1))) for key in ("strides", "dilations"))
    return Window(strides, tuple(node.attrs.get("pads", (0, 0, 0, 0))), dilations)


def _bias(node: gs.Node, rows: int, base: str, taken: set[str]) -> gs.Constant:
    """The stored bias as (rows,), zeros where there is none: a kernel then needs no second path."""
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        return gs.Constant(fresh_name(taken, bias_name(base)), np.zeros(rows, np.float32))
    bias = node.inputs[2]
    if bias.values.shape == (rows,):
        return bias
    spread = np.broadcast_to(bias.values.reshape(-1), (rows,)).astype(np.float32)
    return gs.Constant(fresh_name(taken, f"{bias.name}.{rows}"), spread)
