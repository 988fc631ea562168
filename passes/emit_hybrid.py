"""Replace every layer that the plan made sparse by its hybrid operator, its weight by the packed tensors."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs
from crisp_onnx.passes.result import Declined, PassResult, constant

from crisp_onnx.format import CONV, DOMAIN, GEMM, encode
from crisp_onnx.masks import Plan, SparseLayer


class EmitHybrid:
    """Conv becomes HybridConv, Gemm and MatMul become HybridGemm; names of nodes and outputs stay."""

    name = "emit_hybrid"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def run(self, graph: gs.Graph) -> PassResult:
        nodes = {node.name: node for node in graph.nodes}
        changed, declined = 0, []
        for sparse in self.plan.sparse():
            node = nodes[sparse.layer.name]
            if len(node.inputs) > 2 and not node.inputs[2].is_empty() and not constant(node.inputs[2]):
                declined.append(Declined(self.name, node.name, "its bias is computed, not stored"))
                continue
            _rewrite(node, sparse)
            changed += 1
        return PassResult(changed, tuple(declined))


def _rewrite(node: gs.Node, sparse: SparseLayer) -> None:
    stored, layer, pattern = node.inputs[1], sparse.layer, sparse.pattern
    matrix = layer.matrix(stored.values)
    tensors = encode(matrix, sparse.mask, sparse.kept, pattern)
    attrs = {
        "n": pattern.n,
        "m": pattern.m,
        "block": pattern.block,
        "vector_rows": pattern.vector_rows,
        "index_bits": pattern.index_bits,
        "weight_shape": [int(side) for side in layer.shape],
        "lower": -math.inf,
        "upper": math.inf,
    }
    if node.op == "Conv":
        attrs |= {
            "strides": list(node.attrs.get("strides", [1, 1])),
            "pads": list(node.attrs.get("pads", [0, 0, 0, 0])),
            "dilations": list(node.attrs.get("dilations", [1, 1])),
        }
    parts = {"values": tensors.values, "indices": tensors.indices, "blocks": tensors.blocks}
    packed = [gs.Constant(f"{layer.weight}.{part}", values) for part, values in parts.items()]
    node.inputs = [node.inputs[0], *packed, _bias(node, sparse)]
    node.op, node.domain, node.attrs = (CONV if layer.op == "Conv" else GEMM), DOMAIN, attrs


def _bias(node: gs.Node, sparse: SparseLayer) -> gs.Constant:
    """The stored bias as (Cout,), zeros where there is none: a kernel then needs no second path."""
    rows = sparse.layer.shape[0]
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        return gs.Constant(f"{sparse.layer.weight}.bias", np.zeros(rows, np.float32))
    bias = node.inputs[2]
    if bias.values.shape == (rows,):
        return bias
    spread = np.broadcast_to(bias.values.reshape(-1), (rows,)).astype(np.float32)
    return gs.Constant(f"{bias.name}.{rows}", spread)
