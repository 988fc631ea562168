"""Real networks: residual streams, depthwise convolutions and folded BatchNorm follow the orders that are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.reorder import TOLERANCE, reorder_channels
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates, Threshold, reason_to_stay_dense

Answers = Callable[..., list[np.ndarray]]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenetv1_imagenet", "mobilenetv2_imagenet")]


@pytest.mark.parametrize("name", ["resnet18w32_cifar100", *SLOW])
def test_real_models_answer_the_same_on_channels_for_which_masks_keep_more(
    answers: Answers, shared_data: Path, name: str
) -> None:
    prepared = prepare(shared_data / "models" / f"{name}.onnx")
    model, pattern = prepared.model, Pattern()
    reasons = {layer.name: reason_to_stay_dense(layer, pattern, left=prepared.left) for layer in prepared.layers}
    planner = Threshold(Candidates(prepared.layers, pattern, reasons), 0.2)
    tensors = model.graph().tensors()
    saliency = {layer.weight: np.abs(layer.matrix(tensors[layer.weight].values)) for layer in planner.candidates.free}
    found = reorder_channels(model, planner, saliency, {}, size=prepared.size)
    assert found.told.kept_after > found.told.kept_before
    assert found.told.reason == ""
    assert found.told.worst_relative is not None
    assert found.told.worst_relative <= TOLERANCE
    image = np.random.default_rng(3).standard_normal(model.input.fixed(1, prepared.size)).astype(np.float32)
    for one, other in zip(answers(model, image), answers(found.model, image), strict=True):
        assert np.abs(np.subtract(one, other, dtype=np.float64)).max() <= TOLERANCE * np.abs(one).max()
