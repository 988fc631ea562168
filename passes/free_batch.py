"""Let a Reshape keep the length of its first axis instead of naming it, so that a fixed batch binds nothing inside.

Models are trained in other batches than the one that their export has written into every Reshape.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.result import PassResult, constant


class FreeBatch:
    """Reshape to (B, ...) of a tensor (B, ...) becomes Reshape to (0, ...), which means the same.

    `one_image`: the file leaves its batch open but answers one image at a time; then a target of (1, ...) for an open
    first axis is taken for that one image.
    """

    name = "free_batch"

    def __init__(self, *, one_image: bool = False) -> None:
        self.one_image = one_image

    def run(self, graph: gs.Graph) -> PassResult:
        changed, taken = 0, tensor_names(graph)
        for node in graph.nodes:
            if node.op != "Reshape" or node.attrs.get("allowzero", 0) or not constant(node.inputs[1]):
                continue
            target, shape = node.inputs[1].values, node.inputs[0].shape
            if not shape or not target.size or not self._is_batch(int(target[0]), shape[0]):
                continue
            name = fresh_name(taken, f"{node.inputs[1].name}.any_batch")
            node.inputs[1] = gs.Constant(name, np.concatenate([np.zeros(1, np.int64), target[1:]]))
            changed += 1
        return PassResult(changed)

    def _is_batch(self, wanted: int, length: int | str | None) -> bool:
        return wanted == (length if isinstance(length, int) else 1 if self.one_image else None)
