"""Fold BatchNormalization into the convolution before it.

W' = W * s and b' = (b - mean) * s + beta per output channel, with s = gamma / sqrt(var + epsilon), computed in double.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer


class FoldBatchNorm:
    """Conv followed by BatchNormalization becomes Conv with a bias."""

    name = "fold_batch_norm"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        taken = tensor_names(graph)
        for norm in [node for node in graph.nodes if node.op == "BatchNormalization"]:
            refusal = _refusal(graph, norm)
            if refusal:
                declined.append(Declined(self.name, norm.name, refusal))
                continue
            _fold(norm.inputs[0].inputs[0], norm, taken)
            changed += 1
        return PassResult(changed, tuple(declined))


def _refusal(graph: gs.Graph, norm: gs.Node) -> str:
    producers = norm.inputs[0].inputs
    if not producers or producers[0].op != "Conv":
        return "no convolution before it"
    conv = producers[0]
    if only_consumer(graph, norm.inputs[0]) is None:
        return f"the output of {conv.name!r} is also used elsewhere"
    stored = [tensor for tensor in (*conv.inputs[1:], *norm.inputs[1:5]) if not tensor.is_empty()]
    if not all(constant(tensor) for tensor in stored):
        return "a weight or a statistic is computed, not stored"
    if norm.attrs.get("training_mode", 0) or len([o for o in norm.outputs if o.outputs]) > 1:
        return "it is in training mode"
    if len(conv.inputs[1].outputs) > 1:
        return f"weight {conv.inputs[1].name!r} is shared"
    return ""


def _fold(conv: gs.Node, norm: gs.Node, taken: set[str]) -> None:
    gamma, beta, mean, variance = (np.asarray(t.values, np.float64) for t in norm.inputs[1:5])
    scale = gamma / np.sqrt(variance + float(norm.attrs.get("epsilon", 1e-5)))
    weight = conv.inputs[1]
    dtype = weight.values.dtype
    biased = len(conv.inputs) > 2 and not conv.inputs[2].is_empty()
    bias = np.asarray(conv.inputs[2].values, np.float64) if biased else np.zeros_like(mean)
    spread = scale.reshape(-1, *[1] * (weight.values.ndim - 1))
    weight.values = (weight.values.astype(np.float64) * spread).astype(dtype)
    name = fresh_name(taken, f"{weight.name}.bias")
    folded = gs.Constant(name, ((bias - mean) * scale + beta).astype(dtype))
    conv.inputs = [*list(conv.inputs)[:2], folded]
    out = norm.outputs[0]
    norm.outputs.clear()
    conv.outputs = [out]
