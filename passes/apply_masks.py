"""Set the pruned weights of the plan to zero, in place: the masked dense graph that every other form must equal."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.masks import Plan
from crisp_onnx.passes.result import PassResult


class ApplyMasks:
    """The weight of every sparse layer becomes weight times mask."""

    name = "apply_masks"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def run(self, graph: gs.Graph) -> PassResult:
        nodes = {node.name: node for node in graph.nodes}
        changed = 0
        for sparse in self.plan.sparse():
            weight = nodes[sparse.layer.name].inputs[1]
            masked = np.where(sparse.mask, sparse.layer.matrix(weight.values), np.float32(0))
            weight.values = sparse.layer.stored(masked, weight.values)
            changed += 1
        return PassResult(changed)
