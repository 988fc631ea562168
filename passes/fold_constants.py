"""Compute what depends on nothing but stored values, so that every weight is a plain initializer.

Weights behind Constant, Identity, Transpose, DequantizeLinear or ConstantOfShape take the name of the tensor that the
graph read; two names for one initializer (a torch export of equal values) become two initializers. Random* nodes are
left alone, and what would take more memory or time than a file of that size has a right to: a few bytes of a shape can
stand for terabytes, so sizes are known before anything is computed.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from onnx import helper

from crisp_onnx.model.work import PRODUCTS, inner
from crisp_onnx.passes.result import Declined, PassResult, constant

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
MAX_BYTES = 1 << 30
"""Of the results of one node."""
FREE_BYTES, TIMES_STORED = 256 << 20, 16
"""Of all results together: so much, and so many times what the file stores. int8 weights become four times as large."""
MAX_MACS = 1e10
# Results whose size depends on values, but is at most that of the input for each of its axes.
_BOUNDED_BY_INPUT = ("NonZero", "Compress", "Unique")
# Their work grows faster than what they read and write.
_PRODUCTS = PRODUCTS | {"DFT", "STFT"}
_RECURRENT = ("LSTM", "GRU", "RNN", "Attention")


class FoldConstants:
    """Replace nodes whose inputs are all stored by their result."""

    name = "fold_constants"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        graph.toposort()
        stored = sum(_bytes(t) for t in graph.tensors().values() if constant(t))
        left = FREE_BYTES + TIMES_STORED * stored
        for node in list(graph.nodes):
            if any(not constant(i) and not i.is_empty() for i in node.inputs) or node.op in _RANDOM:
                continue
            if _has_subgraph(node) or any(out is o for o in graph.outputs for out in node.outputs):
                continue
            try:
                small = _alone(node, graph)
                wanted = _predicted_bytes(node, small)
                refusal = _refusal(node, wanted, left)
                values = [] if refusal else _evaluate(node, small)
            except Exception as error:  # the runtime raises many types; the node simply stays
                refusal = f"cannot be computed ahead: {str(error).splitlines()[0][:200]}"
            if refusal:
                declined.append(Declined(self.name, node.name, refusal))
                continue
            left -= wanted or 0
            for out, value in zip(list(node.outputs), values, strict=True):
                out.inputs.clear()
                out.to_constant(value)
            node.inputs.clear()
            changed += 1
        return PassResult(changed, tuple(declined))


def _has_subgraph(node: gs.Node) -> bool:
    return any(isinstance(value, gs.Graph) for value in node.attrs.values())


def _bytes(tensor: gs.Constant) -> int:
    itemsize = 2 if isinstance(tensor.dtype, int) else np.dtype(tensor.dtype).itemsize
    return int(prod(int(side) for side in tensor.shape)) * itemsize


def _refusal(node: gs.Node, wanted: int | None, left: int) -> str:
    """Why the node is not computed, a phrase; empty where it is."""
    if wanted is None:
        return "the size of its result cannot be told ahead"
    if wanted > MAX_BYTES:
        return f"its result takes {wanted / 1e9:.3g} GB, more than 1 GiB"
    if wanted > left:
        return "all that is computed ahead would take too much memory for a file of this size"
    macs = _macs(node, wanted)
    return f"it takes {macs:.1e} multiplications, too many to compute ahead" if macs > MAX_MACS else ""


def _macs(node: gs.Node, wanted: int) -> float:
    """Multiplications at most: every result element reads at most the smaller operand once."""
    if node.op in _RECURRENT:
        return float("inf") if wanted > 1 << 20 else 0.0
    if node.op not in _PRODUCTS:
        return 0.0
    operands = [tensor for tensor in node.inputs if constant(tensor) and len(tensor.shape)]
    return float(wanted // 4) * min((inner([int(side) for side in tensor.shape]) for tensor in operands), default=1)


def _alone(node: gs.Node, graph: gs.Graph) -> onnx.ModelProto:
    """A model that holds nothing but the node and the values that it reads."""
    copy = gs.Node(
        node.op,
        node.name,
        attrs=dict(node.attrs),
        inputs=[gs.Constant(i.name, i.values) if constant(i) else gs.Variable.empty() for i in node.inputs],
        outputs=[gs.Variable(o.name) for o in node.outputs],
        domain=node.domain,
    )
    small = gs.Graph(nodes=[copy], outputs=list(copy.outputs), opset=graph.opset, import_domains=graph.import_domains)
    proto = gs.export_onnx(small, do_type_check=False)
    proto.ir_version = 8
    return onnx.shape_inference.infer_shapes(proto)  # all that it reads is stored


def _predicted_bytes(node: gs.Node, small: onnx.ModelProto) -> int | None:
    """Bytes of the node's results, from shape inference on the values that it reads; None where that does not tell."""
    if node.op == "Constant":
        return sum(len(tensor.raw_data) for n in small.graph.node for a in n.attribute for tensor in (a.t,))
    if node.op in _BOUNDED_BY_INPUT:
        return sum(_bytes(tensor) * max(len(tensor.shape), 1) * 8 for tensor in node.inputs if constant(tensor))
    total = 0
    for output in small.graph.output:
        tensor = output.type.tensor_type
        if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            return None
        total += prod(dim.dim_value for dim in tensor.shape.dim) * _itemsize(tensor.elem_type)
    return total


def _itemsize(elem_type: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize) if elem_type else 8


def _evaluate(node: gs.Node, small: onnx.ModelProto) -> list[npt.NDArray[Any]]:
    """The node's outputs, computed by ONNX Runtime on a graph that holds nothing else."""
    if node.op == "Constant" and isinstance(node.attrs.get("value"), gs.Constant):
        return [node.attrs["value"].values]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Nothing is computed while the session opens; what the node takes was told ahead.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {}))
