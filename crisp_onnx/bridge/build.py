"""Cross from ONNX to torch: refuse what is missing, all at once, then build the module."""

from __future__ import annotations

from collections.abc import Container, Sequence

import onnx_graphsurgeon as gs
from onnx import numpy_helper
from torch import Tensor

from crisp_onnx.bridge.missing import missing_in, refusal_of
from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.bridge.prepare import node_of, prepare
from crisp_onnx.bridge.roles import constant_roles
from crisp_onnx.bridge.value import Host, from_numpy, to_host
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model
from crisp_onnx.model.macs import read_by
from crisp_onnx.model.overridable import overridable

OLDEST_OPSET, NEWEST_OPSET = 13, 28


def missing_operators(model: Model, outputs: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Names of the nodes by operator, for each operator that the bridge lacks; foreign ones as `domain::Operator`.

    With `outputs` only nodes that these tensors need count.
    """
    nodes = model.view.nodes
    return missing_in(_behind(model.view, outputs) if outputs else nodes)


def to_torch(model: Model, outputs: Sequence[str] = ()) -> GraphModule:
    """The model as a torch module in eval mode, its weights as parameters under their initializer names.

    `outputs`: any tensors of the graph; the module then answers with them and holds nothing that they do not need.

    Raises:
        CrispError: operators are missing (all are listed), the opset is outside 13 to 28, or a constant has an
            element type that torch lacks.
    """
    graph = _graph(model, outputs)
    refusal = refusal_of(missing_in(graph.nodes), model.path.name)
    if refusal:
        raise CrispError(refusal)
    if not OLDEST_OPSET <= model.opset <= NEWEST_OPSET:
        raise CrispError(
            f"{model.path.name} has opset {model.opset}; the bridge knows {OLDEST_OPSET} to {NEWEST_OPSET}. "
            "Convert it first, for example with onnx.version_converter."
        )
    prepare(graph, model.opset)
    overrides = overridable(model.proto)
    for tensor in graph.inputs:
        if tensor.name in overrides:
            tensor.to_constant(numpy_helper.to_array(overrides[tensor.name]))
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in overrides]
    return _module(graph, model.opset, frozenset(overrides)).eval()


def _behind(graph: gs.Graph, outputs: Sequence[str]) -> list[gs.Node]:
    """The nodes that the tensors named `outputs` are computed from, in the order of the graph."""
    tensors = graph.tensors()
    needed: set[int] = set()
    waiting = [node for name in outputs for node in tensors[name].inputs]
    while waiting:
        node = waiting.pop()
        if id(node) not in needed:
            needed.add(id(node))
            waiting += [writer for tensor in read_by(node) for writer in tensor.inputs]
    return [node for node in graph.nodes if id(node) in needed]


def _graph(model: Model, outputs: Sequence[str]) -> gs.Graph:
    graph = model.graph()
    if outputs:
        tensors = graph.tensors()
        graph.outputs = [tensors[name] for name in outputs]
        graph.cleanup(remove_unused_graph_inputs=False)
    return graph


def _module(graph: gs.Graph, opset: int, overrides: Container[str]) -> GraphModule:
    """The nodes of the graph as a module. What a caller may override is not the module's to learn."""
    arrays = {t.name: t.values for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    groups: dict[str, dict[str, Tensor]] = {"parameter": {}, "statistic": {}, "fixed": {}}
    hosts: dict[str, Host] = {}
    for name, role in constant_roles(graph).items():
        if role == "host":
            hosts[name] = to_host(arrays[name])
        else:
            groups["fixed" if name in overrides else role][name] = from_numpy(arrays[name], f"Constant {name!r}")
    return GraphModule(
        [node_of(node, opset) for node in graph.nodes],
        [t.name for t in graph.inputs],
        [t.name for t in graph.outputs],
        parameters=groups["parameter"],
        statistics=groups["statistic"],
        fixed=groups["fixed"],
        hosts=hosts,
    )
