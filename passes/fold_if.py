"""Take the branch of an If whose condition is stored, in place of the If."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.result import Declined, PassResult, constant


class FoldIf:
    """If with a stored condition becomes the nodes of the branch that it always takes, inner ones included."""

    name = "fold_if"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        waiting = [node for node in graph.nodes if node.op == "If"]
        while waiting:
            node = waiting.pop()
            if not constant(node.inputs[0]) or node.inputs[0].values.size != 1:
                declined.append(Declined(self.name, node.name, "its condition depends on the input"))
                continue
            chosen = "then_branch" if node.inputs[0].values.reshape(-1)[0] else "else_branch"
            waiting += [inner for inner in _take(graph, node, node.attrs[chosen]) if inner.op == "If"]
            changed += 1
        return PassResult(changed, tuple(declined))


def _take(graph: gs.Graph, node: gs.Node, branch: gs.Graph) -> list[gs.Node]:
    """Put the nodes of `branch` into `graph`; its results are passed on under the names that the graph reads."""
    outputs = list(node.outputs)
    node.inputs.clear()
    node.outputs.clear()
    graph.nodes.remove(node)
    taken, outer = tensor_names(graph) | {out.name for out in outputs}, graph.tensors()
    own = {id(tensor): tensor for each in branch.nodes for tensor in each.outputs if not tensor.is_empty()}
    stored = (tensor for each in branch.nodes for tensor in each.inputs if constant(tensor))
    own |= {id(tensor): tensor for tensor in stored if outer.get(tensor.name) is not tensor}
    for tensor in own.values():  # two graphs may use one name for different tensors
        tensor.name = fresh_name(taken, tensor.name)
    named = {each.name for each in graph.nodes}
    for each in branch.nodes:
        each.name = fresh_name(named, each.name) if each.name else ""
    passed_on = [
        gs.Node("Identity", fresh_name(named, f"{node.name}.{place}"), inputs=[result], outputs=[out])
        for place, (out, result) in enumerate(zip(outputs, branch.outputs, strict=True))
    ]
    graph.nodes.extend([*branch.nodes, *passed_on])
    return list(branch.nodes)
