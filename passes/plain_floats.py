"""Compute in float32 throughout a graph that stores or computes floats of another width, and keep its interface.

Training and the kernels want float32. Float16 and bfloat16 numbers are float32 numbers; of double ones the last places
go. What comes in and goes out keeps its type: a Cast stands at the border.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import Declined, PassResult, constant, read_instead

FLOAT = int(TensorProto.FLOAT)
_OTHER = {np.dtype(np.float16): int(TensorProto.FLOAT16), np.dtype(np.float64): int(TensorProto.DOUBLE)}
OTHER_FLOATS = frozenset((*_OTHER.values(), int(TensorProto.BFLOAT16)))
"""Element types that become float32."""
# Attributes that name an element type, whatever the operator.
_TYPE_KEYS = ("to", "dtype", "output_dtype", "output_datatype")


class PlainFloats:
    """Weights, constants, Casts and typed attributes of 16 and 64 bit floats become float32."""

    name = "plain_floats"

    def run(self, graph: gs.Graph) -> PassResult:
        stored = [tensor for tensor in graph.tensors().values() if constant(tensor) and _kind(tensor) in OTHER_FLOATS]
        borders = [tensor for tensor in (*graph.inputs, *graph.outputs) if _kind(tensor) in OTHER_FLOATS]
        named = [node for node in graph.nodes if any(_typed(node, key) for key in _TYPE_KEYS)]
        fills = [
            node for node in graph.nodes if constant(node.attrs.get("value")) and _kind(node.attrs["value"]) != FLOAT
        ]
        if not (stored or borders or named or fills):
            return PassResult(0)
        strange = next((node for node in graph.nodes if _is_strange(node)), None)
        if strange is not None:
            reason = f"{strange.op} may need the types that the graph has"
            return PassResult(0, (Declined(self.name, strange.name, reason),))
        taken = used_names(graph)
        keep = {
            id(node) for tensor in graph.outputs for node in tensor.inputs if node.op == "Cast" and not tensor.outputs
        }
        for node in named:
            for key in _TYPE_KEYS:
                if _typed(node, key) and id(node) not in keep:
                    node.attrs[key] = FLOAT
        for node in fills:
            value = node.attrs["value"]
            if _kind(value) in OTHER_FLOATS:
                value.values = value.values.astype(np.float32)
        for tensor in stored:
            tensor.values = tensor.values.astype(np.float32)
        for tensor in graph.inputs:
            if _kind(tensor) in OTHER_FLOATS:
                _cast_in(graph, tensor, taken)
        for tensor in graph.outputs:
            if _kind(tensor) in OTHER_FLOATS and tensor.inputs and id(tensor.inputs[0]) not in keep:
                _cast_out(graph, tensor, taken)
        return PassResult(len(stored) + len(borders) + len(named) + len(fills))


def _kind(tensor: gs.Tensor) -> int | None:
    """The element type as ONNX numbers it; None where it is not known or not a float of another width."""
    if isinstance(tensor.dtype, int):  # graphsurgeon keeps the number of a type that numpy lacks
        return int(tensor.dtype)
    if tensor.dtype is None:
        return None
    return _OTHER.get(np.dtype(tensor.dtype), FLOAT)


def _typed(node: gs.Node, key: str) -> bool:
    return node.attrs.get(key) in OTHER_FLOATS


def _is_strange(node: gs.Node) -> bool:
    foreign = node.domain not in (None, "", "ai.onnx")
    return foreign or any(isinstance(value, gs.Graph) for value in node.attrs.values())


def _cast_in(graph: gs.Graph, tensor: gs.Tensor, taken: set[str]) -> None:
    """Let everything but Casts, which take any type, read the input as float32."""
    readers = [node for node in tensor.outputs if node.op != "Cast"]
    if not readers:
        return
    plain = gs.Variable(fresh_name(taken, f"{tensor.name}.float32"), np.float32, tensor.shape)
    for node in readers:
        node.inputs = [plain if given is tensor else given for given in node.inputs]
    graph.nodes.insert(0, gs.Node("Cast", fresh_name(taken, f"{tensor.name}.cast"), {"to": FLOAT}, [tensor], [plain]))


def _cast_out(graph: gs.Graph, tensor: gs.Tensor, taken: set[str]) -> None:
    """Let the output's node write float32, and a Cast the output in its own type."""
    plain = gs.Variable(fresh_name(taken, f"{tensor.name}.float32"), np.float32, tensor.shape)
    read_instead(tensor, plain)
    writer = tensor.inputs[0]
    writer.outputs = [plain if given is tensor else given for given in writer.outputs]
    name = fresh_name(taken, f"{tensor.name}.cast")
    graph.nodes.append(gs.Node("Cast", name, {"to": _kind(tensor)}, [plain], [tensor]))
