"""Write hybrid operators as ordinary ones with zeros in place, for tools that find the sparsity themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format import CONV_ADD, DOMAIN, GEMM, HybridTensors, Pattern, decode
from crisp_onnx.model import Model


def dense_form(model: Model) -> Model | None:
    """The same answers from Conv, Gemm, Add and Clip alone; `None` where the model holds no hybrid operator."""
    graph = model.graph()
    hybrid = [node for node in graph.nodes if node.domain == DOMAIN]
    if not hybrid:
        return None
    for node in hybrid:
        _expand(graph, node)
    graph.functions = []
    graph.cleanup().toposort()
    dense = model.with_graph(graph)
    del dense.proto.functions[:]
    kept = [entry for entry in dense.proto.opset_import if entry.domain != DOMAIN]
    del dense.proto.opset_import[:]
    dense.proto.opset_import.extend(kept)
    return replace(dense, sha256="")


def _expand(graph: gs.Graph, node: gs.Node) -> None:
    """Replace one operator by its product, its addition and its bounds, where they do anything."""
    attributes, out = node.attrs, node.outputs[0]
    pattern = Pattern(
        int(attributes["n"]), int(attributes["m"]), int(attributes["block"]), int(attributes["vector_rows"])
    )
    shape = tuple(int(side) for side in attributes["weight_shape"])
    values, indices, blocks = (tensor.values for tensor in node.inputs[1:4])
    weight = decode(HybridTensors(values, indices, blocks), shape, pattern)
    name = node.inputs[1].name.removesuffix(".values")
    bias, added = node.inputs[4], node.inputs[5] if node.op == CONV_ADD else None
    bounds = [float(attributes.get(key, sign * math.inf)) for key, sign in (("lower", -1), ("upper", 1))]
    clipped = any(math.isfinite(bound) for bound in bounds)
    node.outputs.clear()
    tail = _variable(f"{out.name}.product", out) if added is not None or clipped else out
    if node.op == GEMM:
        stored = gs.Constant(name, np.ascontiguousarray(weight.reshape(shape[0], -1).T))
        product = _variable(f"{out.name}.unbiased", out)
        graph.nodes.append(gs.Node("MatMul", node.name, {}, [node.inputs[0], stored], [product]))
        graph.nodes.append(gs.Node("Add", f"{node.name}.bias", {}, [product, bias], [tail]))
    else:
        kept = {key: list(attributes[key]) for key in ("strides", "pads", "dilations") if key in attributes}
        stored = gs.Constant(name, np.ascontiguousarray(weight))
        graph.nodes.append(gs.Node("Conv", node.name, kept, [node.inputs[0], stored, bias], [tail]))
    if added is not None:
        total = _variable(f"{out.name}.sum", out) if clipped else out
        graph.nodes.append(gs.Node("Add", f"{node.name}.add", {}, [tail, added], [total]))
        tail = total
    if clipped:
        limits = [gs.Constant(f"{node.name}.bound{i}", np.array(bound, np.float32)) for i, bound in enumerate(bounds)]
        graph.nodes.append(gs.Node("Clip", f"{node.name}.clip", {}, [tail, *limits], [out]))
    node.inputs.clear()


def _variable(name: str, like: gs.Tensor) -> gs.Variable:
    return gs.Variable(name, like.dtype, like.shape)
