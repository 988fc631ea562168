"""Leave the answers in real numbers: bytes would make scores equal that are not."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.passes.quantise_hybrid import crossed, dequantised
from crisp_onnx.passes.result import PassResult, constant

_MOVING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_MAKERS = _MOVING | {"Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool"}
"""Not Conv: ONNX Runtime has none of bytes that gives real numbers."""
_BEHIND = _MOVING | {"Clip", "LogSoftmax", "Relu", "Sigmoid", "Softmax", "Tanh"}
_BY_STORED = frozenset({"Add", "Div", "Mul", "Sub"})


class RealAnswers:
    """A matrix product, sum or mean that leads to graph outputs alone gives them as it computes them, not as bytes.

    No Relu or Clip behind it may have been left out because bytes end where it does (see `shared_grids`).
    """

    name = "real_answers"

    def run(self, graph: gs.Graph) -> PassResult:
        changed = 0
        outputs = {id(tensor) for tensor in graph.outputs}
        for node in reversed([node for node in graph.nodes if node.op == "DequantizeLinear"]):
            found = dequantised(node.outputs[0])
            if found is None or not leads_to_answers(node.outputs[0], outputs) or len(found.tensor.inputs) != 1:
                continue
            before = found.tensor.inputs[0]
            if before.op != "QuantizeLinear" or crossed(before, found.tensor) is None or len(found.tensor.outputs) != 1:
                continue
            real = before.inputs[0]
            if len(real.inputs) != 1 or real.inputs[0].op not in _MAKERS or len(real.outputs) != 1:
                continue
            maker, out = real.inputs[0], node.outputs[0]
            node.outputs.clear()
            before.outputs.clear()
            maker.outputs = [out]
            changed += 1
        return PassResult(changed)


def leads_to_answers(tensor: gs.Tensor, outputs: set[int]) -> bool:
    """Whether nothing but graph outputs is made of the tensor, as it is or as shares."""
    waiting = [tensor]
    while waiting:
        made = waiting.pop()
        if not made.outputs and id(made) not in outputs:
            return False
        if any(reader.op not in _BEHIND and not _by_stored(reader, made) for reader in made.outputs):
            return False
        waiting += [reader.outputs[0] for reader in made.outputs]
    return True


def _by_stored(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Whether the node adds a stored bias to the tensor, or scales it by a stored number, which may be in bytes."""
    others = [given for given in node.inputs if given is not tensor]
    stored = [
        constant(other) or (len(other.inputs) == 1 and all(map(constant, other.inputs[0].inputs))) for other in others
    ]
    return node.op in _BY_STORED and len(others) == 1 and stored[0]
