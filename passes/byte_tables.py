"""Look single bytes up where they are made into real numbers only for a function of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator

from crisp_onnx.format import DOMAIN
from crisp_onnx.format.node import OnGrid
from crisp_onnx.format.operators import TABLE
from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.quantise_hybrid import crossed, dequantised
from crisp_onnx.passes.result import PassResult, constant

BYTES = 256
FUNCTIONS = frozenset(
    {
        *("Abs", "Ceil", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish"),
        *("Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Tanh"),
        "ThresholdedRelu",
    }
)
"""Of one tensor, number by number."""
POINTWISE = FUNCTIONS | {"Add", "Clip", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"}


@dataclass(frozen=True)
class _Cone:
    """Nodes between bytes and what a QuantizeLinear reads. `leaves`: the real numbers that are made of `source`."""

    nodes: tuple[gs.Node, ...]
    leaves: tuple[gs.Tensor, ...]
    source: OnGrid


class ByteTables:
    """Pointwise operators between DequantizeLinear of one tensor and QuantizeLinear become a table of 256 bytes.

    The pieces of a GELU are one function as well. Only beside operators of ours: ONNX Runtime's lay channels out
    otherwise.
    """

    name = "byte_tables"

    def run(self, graph: gs.Graph) -> PassResult:
        taken = used_names(graph)
        outputs = {id(tensor) for tensor in graph.outputs}
        changed = 0
        for node in [node for node in graph.nodes if node.op == "QuantizeLinear"]:
            after = crossed(node, node.outputs[0])
            cone = None if after is None else _cone(node, outputs)
            if after is None or cone is None or not beside_ours(cone.source.tensor, after.tensor):
                continue
            table = _table(graph, cone, node.inputs[0], after)
            if table is None:
                continue
            stored = gs.Constant(fresh_name(taken, f"{after.tensor.name}.table"), table)
            node.outputs.clear()
            name = fresh_name(taken, f"{after.tensor.name}.look_up")
            graph.nodes.append(gs.Node(TABLE, name, {}, [cone.source.tensor, stored], [after.tensor], domain=DOMAIN))
            changed += 1
        return PassResult(changed)


def beside_ours(source: gs.Tensor, out: gs.Tensor) -> bool:
    """Whether an operator of ours writes `source` or reads `out`."""
    return any(node.domain == DOMAIN for node in (*source.inputs, *out.outputs))


def _cone(quantize: gs.Node, outputs: set[int]) -> _Cone | None:
    """What a QuantizeLinear reads, back to the bytes of one tensor; None where it is made of anything else."""
    nodes: dict[int, gs.Node] = {}
    leaves: dict[int, gs.Tensor] = {}
    sources: list[OnGrid] = []
    waiting = [quantize.inputs[0]]
    while waiting:
        tensor = waiting.pop()
        found = dequantised(tensor)
        if found is not None:
            leaves[id(tensor)] = tensor
            sources.append(found)
        elif not constant(tensor):
            node = tensor.inputs[0] if len(tensor.inputs) == 1 else None
            if node is None or node.op not in POINTWISE or node.domain not in (None, "", "ai.onnx"):
                return None
            if id(node) not in nodes:
                nodes[id(node)] = node
                waiting += [given for given in node.inputs if not given.is_empty()]
    if not nodes or any(found.tensor is not sources[0].tensor or found.grid != sources[0].grid for found in sources):
        return None
    inner = [tensor for node in nodes.values() for tensor in node.outputs]
    kept = {*nodes, id(quantize)}
    if any(id(tensor) in outputs or any(id(reader) not in kept for reader in tensor.outputs) for tensor in inner):
        return None
    rank = len(sources[0].tensor.shape) if sources[0].tensor.shape is not None else 1
    given = [tensor for node in nodes.values() for tensor in node.inputs if constant(tensor)]
    if any(tensor.values.size != 1 or tensor.values.ndim > rank for tensor in given):
        return None
    return _Cone(tuple(nodes.values()), tuple(leaves.values()), sources[0])


def _table(graph: gs.Graph, cone: _Cone, result: gs.Tensor, after: OnGrid) -> npt.NDArray[np.uint8] | None:
    """What the nodes make of each byte; None where that is no number."""
    proto = gs.export_onnx(_alone(graph, cone, result), do_type_check=False)
    grid = cone.source.grid
    real = ((np.arange(BYTES) - grid.zero) * np.float32(grid.scale)).astype(np.float32)
    with np.errstate(all="ignore"):
        answers = list(ReferenceEvaluator(proto).run(None, {leaf.name: real for leaf in cone.leaves}))
        answer = np.asarray(answers[0], np.float32).reshape(-1)
        steps: npt.NDArray[np.float32] = np.rint(answer / np.float32(after.grid.scale)) + np.float32(after.grid.zero)
    if len(steps) != BYTES or np.isnan(steps).any():
        return None
    return np.clip(steps, 0, BYTES - 1).astype(np.uint8)


def _alone(graph: gs.Graph, cone: _Cone, result: gs.Tensor) -> gs.Graph:
    """The nodes as a graph of their own, from 256 real numbers for each leaf."""
    twins: dict[int, gs.Tensor] = {id(leaf): gs.Variable(leaf.name, np.float32, [BYTES]) for leaf in cone.leaves}

    def twin(tensor: gs.Tensor) -> gs.Tensor:
        if id(tensor) not in twins:
            known = constant(tensor)
            twins[id(tensor)] = (
                gs.Constant(tensor.name, tensor.values) if known else gs.Variable(tensor.name, np.float32)
            )
        return twins[id(tensor)]

    nodes = [
        gs.Node(node.op, node.name, dict(node.attrs), [twin(t) for t in node.inputs], [twin(t) for t in node.outputs])
        for node in cone.nodes
    ]
    leaves = [twins[id(leaf)] for leaf in cone.leaves]
    return gs.Graph(nodes, leaves, [twin(result)], opset=graph.opset).toposort()
