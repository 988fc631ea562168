"""Remove channels for good: every tensor that holds them becomes shorter, and the answers are those of zeros there.

What a removed channel gave counts as zero wherever channels are summed up, in convolutions, products and sums. No input
or output of the graph changes its shape, for groups that reach one may not be removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups import Removal, removed_indices
from crisp_onnx.passes.restate import restate
from crisp_onnx.passes.result import PassResult


class SliceChannels:
    """Cut the channels of `removals` out of the graph. `shapes`: of all its tensors, for one image."""

    name = "slice_channels"

    def __init__(self, removals: Sequence[Removal], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.removed, self.shapes = removed_indices(removals), shapes

    def run(self, graph: gs.Graph) -> PassResult:
        if not self.removed:
            return PassResult(0)
        restate(graph, self.removed, self.shapes)
        tensors = graph.tensors()
        for (name, axis), indices in self.removed.items():
            tensor = tensors.get(name)
            if isinstance(tensor, gs.Constant):
                tensor.values = np.delete(tensor.values, indices, axis)
            elif tensor is not None and tensor.shape and isinstance(tensor.shape[axis], int):
                shape = list(tensor.shape)
                shape[axis] -= len(indices)
                tensor.shape = shape
        return PassResult(len(self.removed))
