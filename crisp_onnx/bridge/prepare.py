"""Make every weight a plain constant: fold nodes whose inputs are all constants, and untie BatchNorm statistics.

Exporters hide weights behind Constant, Identity, Transpose, DequantizeLinear, ConstantOfShape and the like. All of
these are one case: a deterministic node without a variable input. Its result becomes a constant under the name of
its output, computed by the handler that would run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import torch

from crisp_onnx.bridge.execute import run_node
from crisp_onnx.bridge.handlers import OPERATORS
from crisp_onnx.bridge.node import Node
from crisp_onnx.bridge.value import Value, from_numpy, to_host, to_numpy, to_tensor
from crisp_onnx.model import fresh_name, tensor_names

DEFAULT_DOMAIN = (None, "", "ai.onnx")
BN_STATISTICS = (3, 4)
_CPU = torch.device("cpu")
_NUMPY = {
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


def prepare(graph: gs.Graph, opset: int) -> None:
    """Change the graph, in place, so that its weights are constants, each with one role.

    Raises:
        CrispError: a constant has an element type that torch lacks.
    """
    fold_constants(graph, opset)
    untie_statistics(graph)
    graph.cleanup()


def fold_constants(graph: gs.Graph, opset: int) -> None:
    """Replace, in place, every node whose inputs are all constants by its result."""
    kept = {id(tensor) for tensor in graph.outputs}
    for node in graph.nodes:
        inputs = [t for t in node.inputs if not t.is_empty()]
        if node.op not in OPERATORS or node.domain not in DEFAULT_DOMAIN or any(id(t) in kept for t in node.outputs):
            continue
        if not all(isinstance(t, gs.Constant) for t in inputs):
            continue
        operands = [None if t.is_empty() else from_numpy(t.values, f"Constant {t.name!r}") for t in node.inputs]
        with torch.no_grad():
            results = run_node(node_of(node, opset), operands, _CPU)
        _become_constants(node, results)


def node_of(node: gs.Node, opset: int) -> Node:
    """The node as handlers see it."""
    return Node(
        name=node.name,
        op=node.op,
        opset=opset,
        attrs=_attributes(node),
        inputs=tuple(t.name for t in node.inputs),
        outputs=tuple(t.name for t in node.outputs),
    )


def _attributes(node: gs.Node) -> Mapping[str, Any]:
    attrs = dict(node.attrs)
    for key, value in attrs.items():
        if isinstance(value, gs.Constant):
            tensor = from_numpy(np.asarray(value.values), f"Attribute {key!r} of node {node.name!r}")
            # The fill of ConstantOfShape is read while compiled code is traced, so it must not be a tensor.
            attrs[key] = tensor if node.op == "Constant" else to_host(tensor)
    return attrs


def _become_constants(node: gs.Node, results: Any) -> None:
    outputs: list[gs.Variable] = [t for t in node.outputs if not t.is_empty()]
    values: list[Value] = list(results)[: len(outputs)]
    node.outputs.clear()
    for output, value in zip(outputs, values, strict=True):
        tensor = to_tensor(value, _CPU)
        output.to_constant(to_numpy(tensor, np.dtype(_NUMPY[tensor.dtype])))
    node.inputs.clear()


def untie_statistics(graph: gs.Graph) -> int:
    """Give a BatchNorm statistic that has other uses a constant of its own; how many got one.

    Exporters store equal constants once, so that a running mean may also be a bias, or that of another BatchNorm.
    The name stays with the first use unless the constant is a weight too.
    """
    uses = [(node, slot) for node in graph.nodes for slot, t in enumerate(node.inputs) if isinstance(t, gs.Constant)]
    weights = {node.inputs[slot].name for node, slot in uses if not _is_statistic(node, slot)}
    taken = tensor_names(graph)
    owned: set[str] = set()
    untied = 0
    for node, slot in uses:
        stored = node.inputs[slot]
        if not _is_statistic(node, slot):
            continue
        if stored.name in weights or stored.name in owned:
            own = "running_mean" if slot == BN_STATISTICS[0] else "running_var"
            name = fresh_name(taken, f"{node.outputs[0].name}.{own}")
            node.inputs[slot] = gs.Constant(name, stored.values.copy())
            untied += 1
        owned.add(stored.name)
    return untied


def _is_statistic(node: gs.Node, slot: int) -> bool:
    return node.op == "BatchNormalization" and slot in BN_STATISTICS
