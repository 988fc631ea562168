"""Drop what an AveragePool says without changing anything: steps of one between the places of its window.

ONNX Runtime's pools of bytes know no such attribute, so that a network with it could not average in int8.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.passes.result import PassResult


class PlainPools:
    """`dilations` of ones are left out."""

    name = "plain_pools"

    def run(self, graph: gs.Graph) -> PassResult:
        changed = 0
        for node in graph.nodes:
            if node.op == "AveragePool" and set(node.attrs.get("dilations", ())) == {1}:
                del node.attrs["dilations"]
                changed += 1
        return PassResult(changed)
