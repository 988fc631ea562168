"""Move Relu and Clip behind a hybrid operator into its bounds `lower` and `upper`."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from crisp_onnx.format.node import is_hybrid, set_bounds
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer

_ACTIVATIONS = frozenset(
    {"Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "HardSwish", "HardSigmoid", "Gelu", "Softplus", "Selu"}
)


class FuseActivation:
    """A hybrid operator without bounds, then Relu or Clip with stored bounds."""

    name = "fuse_activation"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        for node in [n for n in graph.nodes if is_hybrid(n)]:
            after = only_consumer(graph, node.outputs[0])
            if after is None:
                continue
            if after.op in _ACTIVATIONS:
                declined.append(Declined(self.name, after.name, f"{after.op} has no place in a hybrid operator"))
            if after.op not in ("Relu", "Clip"):
                continue
            bounds = bounds_of(after)
            if bounds is None:
                declined.append(Declined(self.name, after.name, "its bounds are computed, not stored"))
                continue
            set_bounds(node, *bounds)
            out = after.outputs[0]
            after.outputs.clear()
            node.outputs = [out]
            changed += 1
        return PassResult(changed, tuple(declined))


def bounds_of(node: gs.Node) -> tuple[float, float] | None:
    """What a Relu or Clip cuts off at; None where it is computed."""
    if node.op == "Relu":
        return 0.0, math.inf
    given = [i for i in list(node.inputs)[1:3] if not i.is_empty()]
    if not all(constant(i) for i in given):
        return None
    ends = [-math.inf, math.inf]
    for place, tensor in enumerate(list(node.inputs)[1:3]):
        if not tensor.is_empty():
            ends[place] = float(tensor.values.reshape(-1)[0])
    return ends[0], ends[1]
