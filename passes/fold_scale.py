"""Fold Mul by a stored number per channel into the convolution before it, as Caffe's Scale layers are exported.

W' = W * s and b' = b * s per output channel. The Add that follows in such exports becomes the bias in `FuseBias`.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.per_channel import Row, per_channel
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer


class FoldScale:
    """Conv followed by Mul of a constant per output channel becomes Conv."""

    name = "fold_scale"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        taken = tensor_names(graph)
        for mul in [node for node in graph.nodes if node.op == "Mul" and any(constant(i) for i in node.inputs)]:
            data = next((i for i in mul.inputs if not constant(i)), None)
            if data is None or not data.inputs or data.inputs[0].op != "Conv":
                continue
            conv, factor = data.inputs[0], next(i for i in mul.inputs if constant(i))
            refusal = _refusal(graph, conv, data)
            weight = conv.inputs[1]
            row = None if refusal else _row(factor, weight)
            if row is None:
                shape = tuple(factor.values.shape)
                reason = refusal or f"its constant {shape} is not one value per channel"
                declined.append(Declined(self.name, mul.name, reason))
                continue
            _fold(conv, mul, row, taken)
            changed += 1
        return PassResult(changed, tuple(declined))


def _refusal(graph: gs.Graph, conv: gs.Node, out: gs.Tensor) -> str:
    if only_consumer(graph, out) is None:
        return f"the output of {conv.name!r} is also used elsewhere"
    if not all(constant(tensor) for tensor in list(conv.inputs)[1:] if not tensor.is_empty()):
        return "a weight or a bias is computed, not stored"
    if len(conv.inputs[1].outputs) > 1:
        return f"weight {conv.inputs[1].name!r} is shared"
    return ""


def _row(factor: gs.Constant, weight: gs.Constant) -> Row | None:
    rank = len(weight.values.shape)
    return per_channel(factor.values, weight.values.shape[0], trailing=rank - 2, rank=rank)


def _fold(conv: gs.Node, mul: gs.Node, row: Row, taken: set[str]) -> None:
    weight, scale = conv.inputs[1], row.astype(np.float64)
    dtype = weight.values.dtype
    spread = scale.reshape(-1, *[1] * (weight.values.ndim - 1))
    weight.values = (weight.values.astype(np.float64) * spread).astype(dtype)
    if len(conv.inputs) > 2 and not conv.inputs[2].is_empty():
        bias = conv.inputs[2]
        scaled = (bias.values.astype(np.float64) * scale).astype(dtype)
        name = bias.name if len(bias.outputs) == 1 else fresh_name(taken, f"{weight.name}.bias")
        conv.inputs[2] = gs.Constant(name, scaled)
    out = mul.outputs[0]
    mul.outputs.clear()
    conv.outputs = [out]
