"""A grouped convolution's fit against numpy's least squares, group by group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crisp_onnx.model import WeightLayer
from crisp_onnx.reconstruct.grouped import best_grouped_fit


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("groups", "channels", "outputs"), [(6, 1, 1), (3, 2, 4), (2, 3, 1)])
def test_each_group_is_a_plain_least_squares_of_its_own_channels(groups, channels, outputs, centred):
    layer = WeightLayer("d", "Conv", "w", (groups * outputs, channels, 3, 3), groups, False, 1, "grouped")
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 9, groups, channels)) + 1
    true = random.standard_normal((groups, outputs, 9, channels))
    y = np.einsum("mtgc,gotc->mgo", x, true) + 0.1 * random.standard_normal((400, groups, outputs)) + 3 * centred
    old = torch.from_numpy(random.standard_normal((groups * outputs, 9 * channels)))
    rows = torch.from_numpy(x.reshape(400, -1)).float(), torch.from_numpy(y.reshape(400, -1)).float()
    known, judged = (tuple(part[side] for part in rows) for side in (slice(300), slice(300, None)))
    fit = best_grouped_fit(layer, known, judged, old, centred=centred, ridges=(1e-9,))
    found = fit.weight.reshape(groups, outputs, 9 * channels).numpy()
    for group in range(groups):
        a, b = x[:300, :, group].reshape(300, -1), y[:300, group]
        if centred:
            a, b = a - a.mean(0), b - b.mean(0)
        expected = np.linalg.lstsq(a, b, rcond=None)[0].T
        np.testing.assert_allclose(found[group], expected, atol=1e-4)
    assert fit.after < 0.1 < fit.before
    assert fit.ridge == 1e-9
