"""Move the Add of a stored row behind a hybrid operator into the operator's bias."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from crisp_onnx.passes.per_channel import Row, fresh_name, per_channel
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer

from crisp_onnx.format import CONV, GEMM


class FuseBias:
    """HybridGemm or HybridConv, then Add of a constant per output channel."""

    name = "fuse_bias"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        for node in [n for n in graph.nodes if n.op in (CONV, GEMM)]:
            add = only_consumer(graph, node.outputs[0])
            if add is None or add.op != "Add" or not any(constant(i) for i in add.inputs):
                continue
            term = next(i for i in add.inputs if constant(i))
            row = _row(term, node)
            if row is None:
                shape = tuple(term.values.shape)
                declined.append(Declined(self.name, add.name, f"its constant {shape} is not one value per channel"))
                continue
            # Several layers may read one bias or one term, so the sum needs a name of its own.
            name = fresh_name(graph, node.inputs[1].name.removesuffix("values") + "bias_sum")
            node.inputs[4] = gs.Constant(name, node.inputs[4].values + row)
            out = add.outputs[0]
            add.outputs.clear()
            node.outputs = [out]
            changed += 1
        return PassResult(changed, tuple(declined))


def _row(term: gs.Constant, node: gs.Node) -> Row | None:
    """`term` as one number per output channel, or None: channels are last for Gemm and second for Conv."""
    rows = node.attrs["weight_shape"][0]
    if node.op == CONV:
        row = per_channel(term.values, rows, trailing=2, rank=4)
    else:
        # A matrix product has as many axes as its input; where that is unknown, one axis is safe.
        row = per_channel(term.values, rows, trailing=0, rank=len(node.outputs[0].shape or (rows,)))
    return None if row is None else row.astype(np.float32)
