"""Give every convolution a BatchNormalization that changes nothing yet, where the export folded them all away.

With gamma = sqrt(var + epsilon) and beta = mean of the convolution's own outputs the new node is the identity. After
pruning, re-estimating its statistics restores each channel's mean and scale, and training is as stable as with the
original layers. `FoldBatchNorm` takes it out again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import Declined, PassResult

EPSILON = 1e-5
Moments = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


class InsertBatchNorm:
    """`moments`: mean and variance (Cout,) of the outputs of each convolution, by node name."""

    name = "insert_batch_norm"

    def __init__(self, moments: Mapping[str, Moments]) -> None:
        self.moments = moments

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        taken = used_names(graph)
        for node in list(graph.nodes):
            if node.name not in self.moments:
                continue
            mean, variance = self.moments[node.name]
            if not np.isfinite(mean).all() or not np.isfinite(variance).all():
                declined.append(Declined(self.name, node.name, "its outputs are not finite"))
                continue
            _insert(graph, node, self.moments[node.name], taken)
            changed += 1
        return PassResult(changed, tuple(declined))


def _insert(graph: gs.Graph, conv: gs.Node, moments: Moments, taken: set[str]) -> None:
    (mean, variance), out = moments, conv.outputs[0]
    inner = gs.Variable(fresh_name(taken, f"{out.name}.before_norm"), dtype=out.dtype, shape=out.shape)
    values = {"scale": np.sqrt(variance + EPSILON), "shift": mean, "mean": mean, "var": variance}
    stored = [
        gs.Constant(fresh_name(taken, f"{out.name}.norm.{key}"), value.astype(np.float32))
        for key, value in values.items()
    ]
    conv.outputs = [inner]
    name = fresh_name(taken, f"{conv.name}.norm")
    norm = gs.Node("BatchNormalization", name, {"epsilon": EPSILON}, [inner, *stored], [out])
    graph.nodes.append(norm)
