"""Cut the classifier down to the user's classes: fewer rows, fewer outputs, in the order of the class list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import classifier_chain, fresh_name, tensor_names
from crisp_onnx.passes.result import Declined, PassResult, constant


class SliceHead:
    """Keep rows `indices` of the classifier's weight, bias and everything per class behind it."""

    name = "slice_head"

    def __init__(self, indices: Sequence[int]) -> None:
        self.indices = list(indices)

    def run(self, graph: gs.Graph) -> PassResult:
        chain = classifier_chain(graph)
        if not chain:
            reason = "no plain chain of operators leads from one weight layer to the output"
            return PassResult(0, (Declined(self.name, graph.outputs[0].name, reason),))
        head = chain[0]
        if not constant(head.inputs[1]):
            reason = f"a caller may override its weight {head.inputs[1].name!r}"
            return PassResult(0, (Declined(self.name, head.name, reason),))
        axis = 1 if head.op == "MatMul" or (head.op == "Gemm" and not head.attrs.get("transB", 0)) else 0
        classes = int(head.inputs[1].shape[axis])
        refusal = self._refusal(graph, classes)
        if refusal:
            return PassResult(0, (Declined(self.name, head.name, refusal),))
        edits: list[tuple[gs.Node, int, np.ndarray]] = []
        for node in chain:
            for place, tensor in enumerate(node.inputs):
                if not constant(tensor):
                    continue
                cut = self._cut(node, place, tensor.values, classes, axis if node is head else None)
                if cut is None:
                    reason = f"constant {tensor.name!r} {tuple(tensor.shape)} is not understood per class"
                    return PassResult(0, (Declined(self.name, node.name, reason),))
                edits.append((node, place, cut))
        taken = tensor_names(graph)
        for node, place, cut in edits:
            old = node.inputs[place]
            name = old.name if len(old.outputs) == 1 else fresh_name(taken, f"{old.name}.sliced")
            node.inputs[place] = gs.Constant(name, np.ascontiguousarray(cut))
        for node in chain:
            for tensor in node.outputs:
                if tensor.shape:
                    tensor.shape = [len(self.indices) if side == classes else side for side in tensor.shape]
        return PassResult(1)

    def _refusal(self, graph: gs.Graph, classes: int) -> str:
        out = graph.outputs[0]
        if out.outputs:
            return f"output {out.name!r} is also read inside the graph"
        sides = [side for side in out.shape or () if isinstance(side, int)]
        if sides and classes not in sides:
            return f"output {out.name!r} {tuple(out.shape)} does not hold the {classes} rows of the last layer"
        return "" if max(self.indices) < classes else f"the last layer has only {classes} rows"

    def _cut(
        self,
        node: gs.Node,
        place: int,
        values: np.ndarray,
        classes: int,
        weight_axis: int | None,
    ) -> np.ndarray | None:
        """The constant for the kept classes, the same constant where it does not depend on them, None if unclear."""
        if weight_axis is not None and place == 1:
            return values.take(self.indices, weight_axis)
        if node.op == "Reshape" and place == 1:
            return np.where(values == classes, len(self.indices), values).astype(values.dtype)
        if node.op in ("Squeeze", "ReduceMean", "Clip", "Dropout") or values.size <= 1:
            return values
        per_class = [number for number, side in enumerate(values.shape) if side == classes]
        if len(per_class) == 1 and values.size == classes:
            return values.take(self.indices, per_class[0])
        return None
