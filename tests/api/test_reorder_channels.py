"""Reordering a model before its masks are chosen: same answers, moved statistics, and a reason where nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import residual_classifier

import crisp_onnx.api.reorder as reorder_module
from crisp_onnx.api.reorder import reorder_channels
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates, Planner, Threshold, reason_to_stay_dense
from crisp_onnx.model import Model, load, tensor_shapes, weight_layers

Answers = Callable[..., list[np.ndarray]]
SIZE = (12, 12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(residual_classifier(tmp_path_factory.mktemp("model") / "small.onnx"))


def planner_of(model: Model) -> Planner:
    layers = weight_layers(model, tensor_shapes(model))
    reasons = {layer.name: reason_to_stay_dense(layer, Pattern(), left={"fc": "classifier"}) for layer in layers}
    return Threshold(Candidates(layers, Pattern(), reasons), 0.125)


def magnitudes(model: Model, planner: Planner) -> dict[str, np.ndarray]:
    tensors = model.graph().tensors()
    return {layer.weight: np.abs(layer.matrix(tensors[layer.weight].values)) for layer in planner.candidates.free}


def test_answers_stay_while_the_masks_keep_more(model: Model, answers: Answers) -> None:
    planner = planner_of(model)
    saliency = magnitudes(model, planner)
    statistics = {name: torch.from_numpy(values.copy()) for name, values in saliency.items()}
    found = reorder_channels(model, planner, saliency, statistics, size=SIZE)
    assert found.told.reason == ""
    assert found.told.kept_after > 1.01 * found.told.kept_before
    assert found.told.worst_relative is not None
    assert found.told.worst_relative <= 1e-5
    image = np.random.default_rng(0).standard_normal((3, 3, *SIZE)).astype(np.float32)
    for one, other in zip(answers(model, image), answers(found.model, image), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * float(np.abs(one).max()))
    moved = magnitudes(found.model, planner)
    assert all(np.array_equal(found.statistics[name].numpy(), values) for name, values in moved.items())
    assert any(not np.array_equal(moved[name], saliency[name]) for name in moved)
    # The residual stream moves as one: stem and second convolution write it, the first convolution reads it.
    stream = next(order for order in found.told.orders if "stem" in order.group.producers)
    assert set(stream.group.producers) == {"stem", "conv2"}
    assert "conv1" in stream.group.consumers


def test_where_no_order_is_better_nothing_moves(model: Model) -> None:
    planner = planner_of(model)
    even = {name: np.ones_like(values) for name, values in magnitudes(model, planner).items()}
    found = reorder_channels(model, planner, even, {}, size=SIZE)
    assert found.model is model
    assert found.told.reason == "no other order keeps more"
    assert found.told.kept_before == found.told.kept_after


def test_a_gain_that_is_too_small_is_told_and_left(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder_module, "WORTHWHILE", 10.0)
    planner = planner_of(model)
    found = reorder_channels(model, planner, magnitudes(model, planner), {}, size=SIZE)
    assert found.model is model
    assert "of it" in found.told.reason
    assert found.told.kept_after > found.told.kept_before


def test_answers_that_would_change_keep_the_order_of_the_file(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder_module, "difference", lambda after, before: 1e-3)
    planner = planner_of(model)
    found = reorder_channels(model, planner, magnitudes(model, planner), {}, size=SIZE)
    assert found.model is model
    assert "would change the answers by 1.0e-03" in found.told.reason


def test_orders_differ_with_what_the_saliency_says_and_repeat_with_it(model: Model, tmp_path: Path) -> None:
    planner = planner_of(model)
    saliency = magnitudes(model, planner)
    first, again = (reorder_channels(model, planner, saliency, {}, size=SIZE) for _ in range(2))
    for one, other in zip(first.told.orders, again.told.orders, strict=True):
        assert np.array_equal(one.order, other.order)
