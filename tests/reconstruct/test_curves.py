"""What layers lose at several densities: falls with the blocks, and is what a fit of that layer alone leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import CHAIN, RESIDUAL, TOKENS, Numbers

from crisp_onnx.bridge import to_torch
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates
from crisp_onnx.model import tensor_shapes, weight_layers
from crisp_onnx.reconstruct.curves import error_curves


def curves_of(model, shape, pattern, scale=1.0):
    layers = weight_layers(model, tensor_shapes(model))
    candidates = Candidates(layers, pattern, {layer.name: layer.obstacle for layer in layers})
    minded = {layer.name: torch.full((layer.shape[0],), scale, dtype=torch.float64) for layer in candidates.free}
    module = to_torch(model)
    before = {name: value.clone() for name, value in module.named_parameters()}
    images, judged = Numbers(200, *shape, seed=1), Numbers(160, *shape, seed=2)
    found = error_curves(module, candidates, minded, images, judged, batch_size=32)
    assert all(torch.equal(value, before[name]) for name, value in module.named_parameters())
    return candidates, module, judged, found


NETWORKS = {"chain": (CHAIN, (3, 9, 9)), "residual": (RESIDUAL, (8, 6, 6)), "tokens": (TOKENS, (6, 8))}


@pytest.mark.parametrize(("text", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_every_layer_that_may_become_sparse_has_a_curve_that_falls(model_of, text, shape):
    values = {"v": np.linspace(0.5, 2, 8)} if text is RESIDUAL else {}
    candidates, _, _, found = curves_of(model_of(text, **values), shape, Pattern(2, 4, 4, 4))
    assert set(found) == {layer.name for layer in candidates.free}
    for layer in candidates.free:
        curve = found[layer.name]
        assert len(curve.gains) == candidates.pattern.block_columns(layer.shape)
        assert curve.gains[-1] > 0 and curve.rest >= 0


def test_blocks_alone_lose_nothing_where_all_are_kept_and_the_whole_spread_where_none_is(model_of):
    _, module, judged, found = curves_of(model_of(CHAIN), (3, 9, 9), Pattern(4, 4, 4, 4), scale=3.0)
    with torch.no_grad():
        y = module.run({"x": torch.from_numpy(judged.x)}, ["a1"])["a1"]
    whole = 3 * float(y.movedim(1, -1).reshape(-1, 12).var(0).sum())
    curve = found["first"]
    assert curve.rest < 1e-3 * whole
    assert curve.gains.sum() + curve.rest == pytest.approx(whole, rel=0.15)
