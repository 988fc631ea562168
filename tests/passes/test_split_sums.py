"""SplitSums: a kernel that is a sum over windows becomes a sum-pool and a smaller kernel, which answer alike."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.model import weight_layers
from crisp_onnx.passes import SplitSums
from crisp_onnx.passes.split_sums import core_of

EXACT = 1e-6


def summed(core: np.ndarray, window: int) -> np.ndarray:
    """The kernel that spreads each weight of a core over a window, place by place."""
    shape = core.shape[:2] + tuple(side + window - 1 for side in core.shape[2:])
    kernel = np.zeros(shape, np.float32)
    for place in np.ndindex(*core.shape[2:]):
        inside = tuple(slice(first, first + window) for first in place)
        weight = core[(..., *place)]
        kernel[(..., *inside)] += weight.reshape(*weight.shape, *[1] * len(place))
    return kernel


def convolution(model_of, weight: np.ndarray, attributes: str):
    sides = ",".join(map(str, weight.shape))
    text = f"(float[N,4,9,9] x) => (float[N,8,h,w] y) <float[{sides}] k> {{ y = Conv<{attributes}>(x, k) }}"
    model = model_of(text, k=weight)
    return model, weight_layers(model)[0].name


@pytest.mark.parametrize(
    "attributes", ["pads=[0,0,0,0]", "pads=[1,1,1,1]", "pads=[3,2,1,0]", "pads=[1,1,1,1], strides=[2,2]"]
)
@pytest.mark.parametrize(("side", "window"), [(3, 2), (3, 3), (5, 2), (5, 3)])
def test_a_sum_over_windows_answers_alike_with_fewer_weights(model_of, rewrite, side, window, attributes):
    core = np.random.default_rng(1).standard_normal((8, 4, side - window + 1, side - window + 1))
    model, name = convolution(model_of, summed(core, window), attributes)
    item = SplitSums({name: window}, EXACT)
    after = rewrite(model, [item], x=np.random.default_rng(2).standard_normal((2, 4, 9, 9)).astype(np.float32))
    assert after.counts == {"AveragePool": 1, "Conv": 1}
    assert after.graph.nodes[1].inputs[1].values.shape == core.shape
    assert item.split[0].share == pytest.approx(((side - window + 1) / side) ** 2)
    assert item.split[0].residual < EXACT


def test_groups_of_channels_stay_apart(model_of, rewrite):
    core = np.random.default_rng(1).standard_normal((8, 2, 2, 2))
    model, name = convolution(model_of, summed(core, 2), "group=2, pads=[1,1,1,1]")
    assert rewrite(model, [SplitSums({name: 2}, EXACT)], x=np.ones((1, 4, 9, 9), np.float32)).counts == {
        "AveragePool": 1, "Conv": 1,
    }  # fmt: skip


def test_the_core_is_the_nearest_of_all_and_the_residual_is_what_is_left():
    kernel = np.random.default_rng(3).standard_normal((2, 3, 3, 3))
    basis = np.stack([summed(one, 2).reshape(-1) for one in np.eye(4).reshape(4, 1, 1, 2, 2)], 1)
    columns = kernel.reshape(6, 9).T
    core, rest, *_ = np.linalg.lstsq(basis, columns, rcond=None)
    found, residual = core_of(kernel, 2)
    np.testing.assert_allclose(found, core.T.reshape(2, 3, 2, 2), atol=1e-12)
    assert residual == pytest.approx(np.sqrt(rest.sum()) / np.linalg.norm(kernel))


def test_a_kernel_that_is_no_such_sum_stays_with_what_it_lacks(model_of, rewrite):
    edge = np.zeros((8, 4, 3, 3), np.float32)
    edge[:, :, 1] = [1, -1, 1]
    model, name = convolution(model_of, edge, "pads=[1,1,1,1]")
    after = rewrite(model, [SplitSums({name: 2}, 0.5)], x=np.ones((1, 4, 9, 9), np.float32))
    assert after.counts == {"Conv": 1}
    assert after.reasons == [f"{100 * core_of(edge, 2)[1]:.1f} % of its kernel is no sum over windows of 2"]


@pytest.mark.parametrize(
    ("attributes", "window", "reason"),
    [
        ("dilations=[2,2]", 2, "its kernel is dilated"),
        ('auto_pad="SAME_UPPER"', 2, "its padding is not in numbers"),
        ("pads=[0,0,0,0]", 4, "a window of 4 does not fit into a kernel of 3x3"),
    ],
)
def test_what_it_does_not_understand_stays(model_of, rewrite, attributes, window, reason):
    model, name = convolution(model_of, np.ones((8, 4, 3, 3), np.float32), attributes)
    after = rewrite(model, [SplitSums({name: window}, 1.0)], x=np.ones((1, 4, 9, 9), np.float32))
    assert after.reasons == [reason]
