"""Store a BatchNorm's mean and variance for that BatchNorm alone, as exporters store equal numbers once."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.bridge import untie_statistics
from crisp_onnx.passes.result import PassResult


class UntieStatistics:
    """Training changes statistics one by one, so that what follows must find them by names of their own."""

    name = "untie_statistics"

    def run(self, graph: gs.Graph) -> PassResult:
        return PassResult(untie_statistics(graph))
