"""Move the Add of a stored row behind a hybrid operator into the operator's bias."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer

from crisp_onnx.format import CONV, GEMM
from crisp_onnx.masks import Plan


class FuseBias:
    """HybridGemm or HybridConv, then Add of a constant per output channel."""

    name = "fuse_bias"

    def run(self, graph: gs.Graph, plan: Plan) -> PassResult:
        changed, declined = 0, []
        for node in [n for n in graph.nodes if n.op in (CONV, GEMM)]:
            add = only_consumer(graph, node.outputs[0])
            if add is None or add.op != "Add" or not any(constant(i) for i in add.inputs):
                continue
            term = next(i for i in add.inputs if constant(i))
            row = _row(term.values, node)
            if row is None:
                shape = tuple(term.values.shape)
                declined.append(Declined(self.name, add.name, f"its constant {shape} is not one value per channel"))
                continue
            bias = node.inputs[4]
            node.inputs[4] = gs.Constant(f"{bias.name}.sum" if bias.values.any() else term.name, bias.values + row)
            out = add.outputs[0]
            add.outputs.clear()
            node.outputs = [out]
            changed += 1
        return PassResult(changed, tuple(declined))


def _row(values: np.ndarray, node: gs.Node) -> np.ndarray | None:  # type: ignore[type-arg]
    """`values` as one number per output channel, or None: channels are last for Gemm and second for Conv."""
    rows = node.attrs["weight_shape"][0]
    shape = [1] * (3 - values.ndim) + list(values.shape) if node.op == CONV else [1, *values.shape]
    channel = shape[-3] if node.op == CONV else shape[-1]
    if values.size == 1:
        return np.full(rows, values.reshape(-1)[0], np.float32)
    return values.reshape(-1).astype(np.float32) if values.size == rows == channel else None
