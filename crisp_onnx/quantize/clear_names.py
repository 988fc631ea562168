"""Take the names that ONNX Runtime's quantiser gives tensors of its own from a graph: it does not look for them."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names

ENDINGS = (
    *("_scale", "_zero_point", "_quantized", "_quantized_scale", "_quantized_zero_point"),
    *("_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Input", "_DequantizeLinear_Output"),
)
"""Behind the name of the tensor that it makes bytes of."""


def clear_names(graph: gs.Graph) -> dict[str, str]:
    """Give inner tensors of `graph` with such names others, in place; the new names by the old ones.

    Networks from Caffe have them: `conv1_scale` beside `conv1`.
    """
    taken = tensor_names(graph)
    reserved = {f"{name}{ending}" for name in taken for ending in ENDINGS}
    ends = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    found: dict[str, str] = {}
    for tensor in list(graph.tensors().values()):
        if tensor.name in reserved and id(tensor) not in ends:
            former, tensor.name = tensor.name, fresh_name(taken, f"{tensor.name}.renamed")
            found[former] = tensor.name
    return found
