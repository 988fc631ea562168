"""Carry parameters and BatchNorm statistics from the torch module back into the graph's constants, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import torch

from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.bridge.prepare import prepare
from crisp_onnx.bridge.value import to_numpy
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model


def write_back(module: GraphModule, model: Model) -> Model:
    """`model` with the module's weights, in the stored layout and element type; masked weights are zero where masked.

    A weight that was hidden behind Constant, Identity, Transpose or the like becomes an initializer and its node goes.

    Raises:
        CrispError: `module` was not made from `model`.
    """
    graph = model.graph()
    prepare(graph, model.opset)
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    masks = module.masks
    trained = dict(module.named_parameters()) | {name: module.get_statistic(name) for name in module.statistics}
    for name, value in trained.items():
        constant = constants.get(name)
        if constant is None or tuple(constant.shape) != tuple(value.shape):
            raise CrispError(f"{model.path.name} has no constant {name!r} of shape {tuple(value.shape)}.")
        with torch.no_grad():
            kept = value if name not in masks else torch.where(masks[name], value, torch.zeros_like(value))
        constant.values = to_numpy(kept, np.dtype(constant.values.dtype))
    return model.with_graph(graph)
