"""Let HybridConv take the other side of a residual Add, or of a Sum of two, as an input: HybridConvAdd."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from crisp_onnx.format.node import add_residual, is_hybrid, read
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer


class FuseResidual:
    """One operand of the Add comes from a HybridConv without activation that nothing else reads."""

    name = "fuse_residual"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        for add in [node for node in graph.nodes if node.op in ("Add", "Sum")]:
            operands = list(add.inputs)
            sides = [i for i in operands if i.inputs and _takes_residual(i.inputs[0])]
            if not sides or any(constant(i) for i in operands):
                continue
            free = [i for i in sides if _fusible(graph, i)]
            if len(operands) != 2:
                declined.append(Declined(self.name, add.name, f"it sums {len(operands)} tensors, not two"))
            elif not free:
                declined.append(Declined(self.name, add.name, "both sides are used elsewhere or already clipped"))
            elif not _same_shape(operands):
                declined.append(Declined(self.name, add.name, "the shapes of both sides are not known to be equal"))
            else:
                _fuse(free[-1], next(i for i in operands if i is not free[-1]), add)
                changed += 1
        return PassResult(changed, tuple(declined))


def _takes_residual(node: gs.Node) -> bool:
    return is_hybrid(node) and bool(read(node).operator.widened)


def _fusible(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    found = read(tensor.inputs[0])
    unclipped = found.lower == -math.inf and found.upper == math.inf
    return unclipped and only_consumer(graph, tensor) is not None


def _same_shape(operands: list[gs.Tensor]) -> bool:
    """Whether both shapes are known and equal. Both batches may be open: one image input decides them alike."""
    first, second = (list(i.shape or ()) for i in operands)
    return bool(first) and first == second and all(side is not None and side != "" for side in first[1:])


def _fuse(result: gs.Tensor, other: gs.Tensor, add: gs.Node) -> None:
    conv = result.inputs[0]
    add_residual(conv, other)
    out = add.outputs[0]
    add.outputs.clear()
    conv.outputs = [out]
