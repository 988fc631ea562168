"""Give the biases of Gemm the one shape that ONNX Runtime's quantiser knows."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.quantize.dense import biases_of, rows_of


def with_flat_biases(graph: gs.Graph) -> None:
    """Give each Gemm whose stored bias is the same for every row of its output one of (columns,), in place.

    The quantiser knows no other: not one of (1, columns), nor one number for all.
    """
    taken = tensor_names(graph)
    for node in [node for node in graph.nodes if node.op == "Gemm" and isinstance(node.inputs[1], gs.Constant)]:
        for bias in biases_of(node):
            columns = (rows_of(node),)
            if (
                not isinstance(bias, gs.Constant)
                or tuple(bias.shape) == columns
                or any(s != 1 for s in bias.shape[:-1])
            ):
                continue
            flat = np.broadcast_to(bias.values.reshape(-1), columns).copy()
            node.inputs[2] = gs.Constant(fresh_name(taken, f"{bias.name}.flat"), flat)
