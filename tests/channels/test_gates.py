"""Gates: what they cost is what is counted where they are hard, and each part of the loss has its closed form."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import networks

from crisp_onnx.channels import Extent, Gates, clamped_ramp, ejector, first_scores
from crisp_onnx.groups import channel_groups
from crisp_onnx.model import Model, tensor_shapes, weight_layers


def extent_of(model: Model) -> Extent:
    shapes = tensor_shapes(model)
    return Extent(model.graph(), channel_groups(model.graph(), weight_layers(model, shapes), shapes), shapes)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=20)
def test_the_slope_of_a_cost_is_what_a_hundredth_of_a_channel_saves(model: Model, seed: int) -> None:
    extent, rng = extent_of(model), np.random.default_rng(seed)
    removed = rng.random(len(extent.groups)) * [group.width - 1 for group in extent.groups]
    for cost in (extent.macs, extent.bytes):
        slopes = cost.slopes(removed)
        for number in range(len(removed)):
            little = np.eye(len(removed))[number] * 0.01
            saved = cost.at(removed - little) - cost.at(removed + little)
            assert slopes[number] == pytest.approx(saved / 0.02, rel=1e-2, abs=1e-6)


def test_the_relaxed_cost_of_two_convolutions_has_its_closed_form(model_of: Callable[..., Model]) -> None:
    """P (3 k + k 4) MACs at k of 8 channels between 3 and 4 others, P places."""
    extent = extent_of(
        model_of(
            "(float[1,3,5,5] x) => (float[1,4,5,5] y) <float[8,3,1,1] a, float[4,8,1,1] b>"
            "{ h = Conv(x, a) y = Conv(h, b) }"
        )
    )
    number = next(place for place, group in enumerate(extent.groups) if group.width == 8)
    gates = Gates(np.full(8, number), len(extent.groups), {}, np.zeros(8))
    scores = torch.linspace(-1, 1, 8)
    opened = gates.opened(scores)
    kept = float(opened.sum())
    assert kept == pytest.approx((1 / (1 + np.exp(-5 * np.linspace(-1, 1, 8)))).sum(), rel=1e-6)
    assert extent.macs.at(gates.removed(opened)) == pytest.approx(25 * (3 * kept + kept * 4), rel=1e-6)
    hard = gates.opened(scores, steepness=1e4)
    assert extent.macs.at(gates.removed(hard)) == pytest.approx(25 * (3 * 4 + 4 * 4))


def test_the_widest_gate_of_a_guarded_group_stays_open() -> None:
    gates = Gates(np.array([0, 0, 1, 1]), 2, {}, np.zeros(4), guarded=frozenset({0}))
    opened = gates.opened(torch.tensor([-3.0, -2.0, -3.0, -2.0]))
    assert opened[:2].tolist() == pytest.approx([(1 + exp(10)) / (1 + exp(15)), 1.0], rel=1e-4)
    assert opened[2:].max() < 1e-4


def test_the_ejector_pushes_away_from_the_fence_on_either_side() -> None:
    scores = torch.tensor([0.0, 1.0, -2.0], requires_grad=True)
    value = ejector(scores)
    squares = [exp(-(s**2) / 2) for s in (0, 1, 2)]
    assert value.item() == pytest.approx(sqrt(sum(squares) / 3))
    (slope,) = torch.autograd.grad(value, [scores])
    expected = [-s * square / (6 * value.item()) for s, square in zip((0, 1, -2), squares, strict=True)]
    assert slope.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_ramp_is_nothing_before_it_starts_and_no_more_than_its_most_after_it() -> None:
    assert [clamped_ramp(step, 24, 28, 2.0) for step in (0, 24, 26, 28, 49)] == [0, 0, 0.25, 2, 2]


def test_gates_start_in_the_order_of_worth_for_cost_and_those_that_would_go_start_lower() -> None:
    worth, costs = np.array([4.0, 1, 2, 3, 9]), np.array([1.0, 1, 4, 1, 1])
    first = first_scores(worth, costs, np.array([False, True, True, False, False]))
    assert first.tolist() == [1.25, 0.5, 0.1, 1.0, 1.5]
