"""Make a synthetic network sparse at random, as `compress` would, so that the kernels' times can be fitted."""

from __future__ import annotations

import numpy as np

from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern, with_bodies
from crisp_onnx.masks import Candidates, Threshold
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.passes import hybrid_passes, run_passes

SHARES = (0.1, 0.25, 0.5, 0.75)


def hybrid_network(model: Model, seed: int) -> Model | None:
    """`model` with random masks in hybrid operators, some layers left dense; `None` where no layer can be sparse."""
    rng = np.random.default_rng(seed)
    layers = weight_layers(model, tensor_shapes(model))
    pattern = Pattern(n=int(rng.choice((1, 2))), m=4, block=16, vector_rows=8)
    dense = {layer.name: layer.obstacle or ("left dense" if rng.random() < 0.3 else "") for layer in layers}
    saliency = {layer.weight: rng.random(layer.shape, dtype=np.float32) for layer in layers if not dense[layer.name]}
    share = float(rng.choice(SHARES)) * pattern.density
    try:
        plan = Threshold(Candidates(layers, pattern, dense), share, floor=1.0).plan(saliency)
    except CrispError:
        return None
    graph = model.graph()
    run_passes(hybrid_passes(plan), graph)
    return with_bodies(model.with_graph(graph))
