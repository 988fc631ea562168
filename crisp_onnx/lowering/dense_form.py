"""Write hybrid operators as ordinary ones with zeros in place, for tools that find the sparsity themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format import DOMAIN, decode
from crisp_onnx.format.node import bias_of, data_of, is_hybrid, is_on_bytes, read, residual_of, tensors_of, weight_name
from crisp_onnx.format.operators import BYTE_OPERATORS, DEPTHWISE, DEPTHWISE_SLOTS, MAX_POOL, TABLE
from crisp_onnx.model import Model, fresh_name, used_names


def dense_form(model: Model) -> Model | None:
    """The same answers from Conv, Gemm, Add and Clip alone; `None` where the model holds no hybrid operator.

    Of operators on bytes, the ordinary ones that cost as much: see `computes_on_bytes`.
    """
    graph = model.graph()
    hybrid = [node for node in graph.nodes if is_hybrid(node)]
    if not hybrid:
        return None
    taken = used_names(graph)
    for node in hybrid:
        _expand(graph, node, taken)
    for node in graph.nodes:
        if node.domain == DOMAIN and node.op in BYTE_OPERATORS:
            _plain(node)
    graph.functions = []
    graph.cleanup().toposort()
    dense = model.with_graph(graph)
    del dense.proto.functions[:]
    kept = [entry for entry in dense.proto.opset_import if entry.domain != DOMAIN]
    del dense.proto.opset_import[:]
    dense.proto.opset_import.extend(kept)
    return replace(dense, sha256="")


def computes_on_bytes(model: Model) -> bool:
    """Whether operators of ours compute on bytes: `dense_form` tells of those what they cost, and not what they say."""
    return any(is_on_bytes(node) for node in model.graph().nodes)


def _plain(node: gs.Node) -> None:
    """The standard operator, on the same tensors, of one that is not hybrid. Any pointwise one stands for a table."""
    if node.op == DEPTHWISE:
        data, weight, bias = (node.inputs[DEPTHWISE_SLOTS.index(slot)] for slot in ("X", "W", "bias"))
        node.inputs = [data, weight, bias]
    elif node.op == TABLE:
        node.inputs = [node.inputs[0]]
    node.op, node.domain = {MAX_POOL: "MaxPool", DEPTHWISE: "Conv", TABLE: "Relu"}[node.op], None


def _expand(graph: gs.Graph, node: gs.Node, taken: set[str]) -> None:
    """Replace one operator by its product, its addition and its bounds, where they do anything."""
    hybrid, out = read(node), node.outputs[0]
    weight = decode(tensors_of(node), hybrid.shape, hybrid.pattern)
    name = fresh_name(taken, weight_name(node))
    data, bias, added = data_of(node), bias_of(node), residual_of(node)
    bounds = (hybrid.lower, hybrid.upper)
    clipped = any(math.isfinite(bound) for bound in bounds)

    def inner(what: str) -> gs.Variable:
        return gs.Variable(fresh_name(taken, f"{out.name}.{what}"), out.dtype, out.shape)

    node.outputs.clear()
    tail = inner("product") if added is not None or clipped else out
    if hybrid.window is None:
        stored = gs.Constant(name, np.ascontiguousarray(weight.reshape(hybrid.shape[:2]).T))
        product = inner("unbiased")
        graph.nodes.append(gs.Node("MatMul", node.name, {}, [data, stored], [product]))
        graph.nodes.append(gs.Node("Add", fresh_name(taken, f"{node.name}.bias"), {}, [product, bias], [tail]))
    else:
        stored = gs.Constant(name, np.ascontiguousarray(weight))
        graph.nodes.append(gs.Node("Conv", node.name, dict(hybrid.window.attributes), [data, stored, bias], [tail]))
    if added is not None:
        total = inner("sum") if clipped else out
        graph.nodes.append(gs.Node("Add", fresh_name(taken, f"{node.name}.add"), {}, [tail, added], [total]))
        tail = total
    if clipped:
        limits = [
            gs.Constant(fresh_name(taken, f"{node.name}.bound{i}"), np.array(bound, np.float32))
            for i, bound in enumerate(bounds)
        ]
        graph.nodes.append(gs.Node("Clip", fresh_name(taken, f"{node.name}.clip"), {}, [tail, *limits], [out]))
    node.inputs.clear()
