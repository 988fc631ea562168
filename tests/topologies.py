"""Well-known topologies for tests: in plain form, and with weights that tell their channels apart."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import Model, upgrade
from crisp_onnx.passes import SIMPLIFY, run_passes


def simplified(model: Model) -> Model:
    model = upgrade(model)
    graph = model.graph()
    run_passes(SIMPLIFY, graph)
    return model.with_graph(graph)


def seeded(model: Model) -> Model:
    """The onnx package's light topologies have equal weights everywhere; these are told apart, and the logits shown."""
    rng = np.random.default_rng(0)
    graph = model.graph()
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.dtype == np.float32 and tensor.values.size > 1:
            values = tensor.values
            spread = rng.standard_normal(values.shape) * 1.4 / np.sqrt(max(1, np.prod(values.shape[1:])))
            tensor.values = (spread if values.ndim > 1 else rng.uniform(0.5, 1.5, values.shape)).astype(np.float32)
    last = graph.outputs[0].inputs[0]
    if last.op == "Softmax":
        graph.outputs = [last.inputs[0]]
    return model.with_graph(graph.cleanup())
