"""Fold gates into the weights that read the gated channels: W' = W times the gate of each of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups import ChannelGroup
from crisp_onnx.passes.insert_gates import gated_columns
from crisp_onnx.passes.result import PassResult


class FoldGates:
    """Give the graph without gates the answers that it has with them, where `InsertGates` would put them.

    `opened` (gates,): the channels of all `groups` in their order. `shapes`: of all tensors, for one image.
    """

    name = "fold_gates"

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        shapes: Mapping[str, tuple[int, ...]],
        opened: npt.NDArray[np.floating],
    ) -> None:
        self.groups, self.shapes, self.opened = tuple(groups), shapes, np.append(opened, 1.0)

    def run(self, graph: gs.Graph) -> PassResult:
        tensors, columns = graph.tensors(), gated_columns(graph, self.groups, self.shapes)
        for name, owners in columns.items():
            weight = tensors[name]
            weight.values = (weight.values * self.opened[owners]).astype(weight.values.dtype)
        return PassResult(len(columns))
