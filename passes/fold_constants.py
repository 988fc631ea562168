"""Compute what depends on nothing but stored values, so that every weight is a plain initializer.

Weights behind Constant, Identity, Transpose, DequantizeLinear or ConstantOfShape take the name of the tensor that the
graph read; two names for one initializer (a torch export of equal values) become two initializers. Random* nodes and
results over 1 GiB are left alone.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from crisp_onnx.passes.result import Declined, PassResult, constant

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
_MAX_BYTES = 1 << 30


class FoldConstants:
    """Replace nodes whose inputs are all stored by their result."""

    name = "fold_constants"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        graph.toposort()
        for node in list(graph.nodes):
            if any(not constant(i) and not i.is_empty() for i in node.inputs) or node.op in _RANDOM:
                continue
            if _has_subgraph(node) or any(out is o for o in graph.outputs for out in node.outputs):
                continue
            try:
                values = _evaluate(node, graph)
            except Exception as error:  # the runtime raises many types; the node simply stays
                reason = f"cannot be computed ahead: {str(error).splitlines()[0][:200]}"
                declined.append(Declined(self.name, node.name, reason))
                continue
            if sum(value.nbytes for value in values) > _MAX_BYTES:
                declined.append(Declined(self.name, node.name, "its result is larger than 1 GiB"))
                continue
            for out, value in zip(list(node.outputs), values, strict=True):
                out.inputs.clear()
                out.to_constant(value)
            node.inputs.clear()
            changed += 1
        return PassResult(changed, tuple(declined))


def _has_subgraph(node: gs.Node) -> bool:
    return any(isinstance(value, gs.Graph) for value in node.attrs.values())


def _evaluate(node: gs.Node, graph: gs.Graph) -> list[npt.NDArray[Any]]:
    """The node's outputs, computed by ONNX Runtime on a graph that holds nothing else."""
    if node.op == "Constant" and isinstance(node.attrs.get("value"), gs.Constant):
        return [node.attrs["value"].values]
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
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        onnx.shape_inference.infer_shapes(proto).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {}))
