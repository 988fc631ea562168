"""Remove nodes that do nothing at inference: Identity and Dropout."""

from __future__ import annotations

import onnx_graphsurgeon as gs
from crisp_onnx.passes.result import Declined, PassResult

from crisp_onnx.masks import Plan


class DropIdentity:
    """Let the consumers of an idle node read its input."""

    name = "drop_identity"

    def run(self, graph: gs.Graph, plan: Plan) -> PassResult:
        changed, declined = 0, []
        for node in list(graph.nodes):
            if node.op not in ("Identity", "Dropout") or node.domain not in (None, "", "ai.onnx"):
                continue
            source, out = node.inputs[0], node.outputs[0]
            if node.op == "Dropout" and len(node.outputs) > 1 and node.outputs[1].outputs:
                declined.append(Declined(self.name, node.name, "its mask output is used"))
            elif any(out is o for o in graph.outputs):
                # The graph's output must keep its name, so the node stays.
                declined.append(Declined(self.name, node.name, "it writes a graph output"))
            else:
                for reader in list(out.outputs):
                    reader.inputs = [source if i is out else i for i in reader.inputs]
                node.outputs.clear()
                changed += 1
        return PassResult(changed, tuple(declined))
