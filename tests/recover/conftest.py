"""Fixtures for recovery: the small classifier, trained until it knows its colours, and images of three classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recovery_runs import CLASSES
from small_models import coloured_images, residual_classifier

from crisp_onnx.bridge import to_torch, write_back
from crisp_onnx.data import Classes, Images, open_images, parse_preprocess
from crisp_onnx.model import Model, load


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The small classifier, trained until it knows its colours."""
    fresh = load(residual_classifier(tmp_path_factory.mktemp("model") / "small.onnx"))
    module = to_torch(fresh)
    everything = Classes(tuple(range(6)), tuple("abcdef"))
    images = open_images(coloured_images(40), everything, None, parse_preprocess("signed", fresh.input))
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    module.train()
    for epoch in range(4):
        for inputs, labels in images.batches(24, order=np.random.default_rng(epoch).permutation(len(images))):
            loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(inputs)), torch.from_numpy(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    module.eval()
    return write_back(module, fresh)


@pytest.fixture(scope="module")
def images(model: Model) -> Images:
    classes = Classes(CLASSES, tuple(map(str, CLASSES)))
    return open_images(coloured_images(32, seed=1), classes, None, parse_preprocess("signed", model.input))
