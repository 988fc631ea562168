"""Measured losses share the budget: the curve through them, and the plan that follows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates, Curve, Threshold, curve_through
from crisp_onnx.model import WeightLayer


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(0, 999))
def test_a_curve_saves_the_less_the_more_blocks_there_are_and_adds_up_to_the_whole(columns, seed):
    random = np.random.default_rng(seed)
    blocks = sorted({1, columns, *random.integers(1, columns + 1, 3).tolist()})
    losses = np.sort(random.random(len(blocks)))[::-1]
    without = float(losses[0] + random.random())
    curve = curve_through(blocks, losses.tolist(), without, columns)
    assert len(curve.gains) == columns
    assert (curve.gains >= 0).all() and (np.diff(curve.gains) >= -1e-12).all()
    assert curve.gains.sum() + curve.rest == pytest.approx(without)
    assert curve.rest == pytest.approx(losses[-1])
    for count, loss in zip(blocks, losses, strict=True):
        assert curve.rest + curve.gains[: columns - count].sum() <= loss + 1e-9


def test_a_convex_curve_goes_through_what_was_measured():
    curve = curve_through([1, 2, 4], [4.0, 2.0, 1.0], 8.0, 4)
    assert curve.rest + curve.gains[:3].sum() == pytest.approx(4.0)
    assert curve.rest + curve.gains[:2].sum() == pytest.approx(2.0)
    assert curve.rest == pytest.approx(1.0)


def test_the_budget_goes_where_the_measured_loss_is_whatever_saliency_says():
    layers = tuple(WeightLayer(name, "Conv", f"w{name}", (16, 128, 1, 1), 1, False, 1, "") for name in "ab")
    saliency = {"wa": np.full((16, 128, 1, 1), 9, np.float32), "wb": np.ones((16, 128, 1, 1), np.float32)}
    threshold = Threshold(Candidates(layers, Pattern(2, 4, 16, 8), {}), 0.25, floor=0.25)
    by_saliency = [item.kept.shape[1] for item in threshold.plan(saliency).sparse()]
    assert by_saliency == [7, 1]
    flat, steep = Curve(np.linspace(0.1, 0.2, 8), 0.0), Curve(np.linspace(1, 2, 8), 0.0)
    measured = threshold.measured({"a": flat, "b": steep})
    assert [item.kept.shape[1] for item in measured.plan(saliency).sparse()] == [1, 7]
    assert measured.loosened(0.5).plan(saliency).sparsity == pytest.approx(0.625)
