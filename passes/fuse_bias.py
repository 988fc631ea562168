"""Move the Add of a stored row behind a hybrid operator into the operator's bias."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format.node import HybridNode, bias_name, bias_of, is_hybrid, read, residual_of, set_bias, weight_name
from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.per_channel import Row, per_channel
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer


class FuseBias:
    """HybridGemm or HybridConv, then Add of a constant per output channel."""

    name = "fuse_bias"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        taken = tensor_names(graph)
        for node in [n for n in graph.nodes if is_hybrid(n) and residual_of(n) is None]:
            add = only_consumer(graph, node.outputs[0])
            if add is None or add.op != "Add" or not any(constant(i) for i in add.inputs):
                continue
            term = next(i for i in add.inputs if constant(i))
            row = _row(term, read(node), node.outputs[0])
            if row is None:
                shape = tuple(term.values.shape)
                declined.append(Declined(self.name, add.name, f"its constant {shape} is not one value per channel"))
                continue
            # Several layers may read one bias or one term, so the sum needs a name of its own.
            name = fresh_name(taken, f"{bias_name(weight_name(node))}_sum")
            set_bias(node, gs.Constant(name, bias_of(node).values + row))
            out = add.outputs[0]
            add.outputs.clear()
            node.outputs = [out]
            changed += 1
        return PassResult(changed, tuple(declined))


def _row(term: gs.Constant, hybrid: HybridNode, out: gs.Tensor) -> Row | None:
    """`term` as one number per output channel, or None: channels are last for Gemm and second for Conv."""
    rows = hybrid.shape[0]
    if hybrid.operator.product == "conv":
        row = per_channel(term.values, rows, trailing=2, rank=4)
    else:
        # A matrix product has as many axes as its input; where that is unknown, one axis is safe.
        row = per_channel(term.values, rows, trailing=0, rank=len(out.shape or (rows,)))
    return None if row is None else row.astype(np.float32)
