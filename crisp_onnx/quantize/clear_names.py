"""Take the names that ONNX Runtime's quantiser gives tensors of its own from a graph: it does not look for them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names

ENDINGS = (
    *("_scale", "_zero_point", "_quantized", "_quantized_scale", "_quantized_zero_point"),
    *("_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Input", "_DequantizeLinear_Output"),
)
"""Behind the name of the tensor that it makes bytes of."""


def clear_names(graph: gs.Graph) -> dict[str, str]:
    """Give tensors of `graph` with such names others, in place; the new names by the old ones.

    Networks from Caffe have them: `conv1_scale` beside `conv1`. So may outputs: `depth_scale` beside `depth`.
    """
    taken = tensor_names(graph)
    reserved = {f"{name}{ending}" for name in taken for ending in ENDINGS}
    found: dict[str, str] = {}
    for tensor in list(graph.tensors().values()):
        if tensor.name in reserved:
            former, tensor.name = tensor.name, fresh_name(taken, f"{tensor.name}.renamed")
            found[former] = tensor.name
    return found


def restore_ends(graph: gs.Graph, renamed: Mapping[str, str]) -> None:
    """Call inputs and outputs that `clear_names` gave other names as before, in place: callers know them by those."""
    formers = {new: former for former, new in renamed.items()}
    taken, named = tensor_names(graph), graph.tensors()
    for tensor in (*graph.inputs, *graph.outputs):
        former = formers.get(tensor.name)
        if former is None:
            continue
        if former in named:  # the quantiser's
            named[former].name = fresh_name(taken, f"{former}.renamed")
        tensor.name = former
