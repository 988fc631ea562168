"""Images synthesised from a model: it sees the classes in them, they fit its input, and the seed decides them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SIDE, coloured_images, residual_classifier

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.data import Classes, Images, open_images, parse_preprocess
from crisp_onnx.data.network import batch_norm_sites
from crisp_onnx.data.objective import moment_distance, total_variation
from crisp_onnx.data.synthesis import Effort, synthesise
from crisp_onnx.model import Model, load

CLASSES = Classes((4, 1, 2), ("four", "one", "two"))
EFFORT = Effort(per_class=4, steps=100, rate=0.3, batch=12)


@pytest.fixture(scope="module", params=[True, False], ids=["with BatchNorm", "without"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    return load(residual_classifier(path, batch_norm=request.param))


def drawn(model: Model, preprocess: str = "signed", seed: int = 0) -> tuple[GraphModule, Images]:
    module = to_torch(model).eval()
    return module, synthesise(module, CLASSES, parse_preprocess(preprocess, model.input), seed=seed, effort=EFFORT)


def test_the_model_sees_the_wanted_class_in_each_image(model: Model) -> None:
    module, images = drawn(model)
    inputs, labels = next(images.batches(64))
    with torch.no_grad():
        among = module(torch.from_numpy(inputs))[:, list(CLASSES.indices)].argmax(1).numpy()
    assert labels is not None
    assert sorted(np.unique(labels).tolist()) == [1, 2, 4]
    assert np.mean(np.asarray(CLASSES.indices)[among] == labels) > 0.9


def test_there_are_as_many_images_of_each_class_in_the_form_of_the_input(model: Model) -> None:
    _, images = drawn(model, "raw")
    inputs, labels = next(images.batches(64))
    assert inputs.shape == (12, 3, SIDE, SIDE)
    assert inputs.min() >= 0
    assert inputs.max() <= 255
    assert inputs.std() > 5
    assert np.bincount(labels, minlength=5).tolist() == [0, 4, 4, 0, 4]


def test_the_seed_decides_the_images(model: Model) -> None:
    first, again, other = (next(drawn(model, seed=seed)[1].batches(64))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_in_the_model_moves(model: Model) -> None:
    module = to_torch(model).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    synthesise(module, CLASSES, parse_preprocess("unit", model.input), effort=EFFORT)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_they_meet_the_statistics_of_batch_norm_better_than_noise_does(tmp_path: Path) -> None:
    fresh = load(residual_classifier(tmp_path / "small.onnx"))
    module = to_torch(fresh)
    every = Classes(tuple(range(6)), tuple("abcdef"))
    real = open_images(coloured_images(20), every, None, parse_preprocess("signed", fresh.input))
    module.train()
    module.bn_momentum = None
    with torch.no_grad():
        for inputs, _ in real.batches(40):
            module(torch.from_numpy(inputs))
    module.eval()
    images = synthesise(module, CLASSES, real.preprocess, effort=EFFORT)
    noise = np.random.default_rng(0).uniform(-1, 1, (12, 3, SIDE, SIDE)).astype(np.float32)
    sites = batch_norm_sites(module)
    distances = []
    for inputs in (next(images.batches(64))[0], noise):
        with torch.no_grad():
            tensors = module.run({"image": torch.from_numpy(inputs)}, [site.tensor for site in sites])
            distances.append(float(moment_distance(tensors, sites)))
    assert distances[0] < 0.7 * distances[1]


def test_moment_distance_is_that_of_means_and_variances_written_out(tmp_path: Path) -> None:
    module = to_torch(load(residual_classifier(tmp_path / "small.onnx"))).eval()
    site = batch_norm_sites(module)[0]
    values = torch.randn(5, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
    expected = (mean - site.mean).norm() + (variance - site.variance).norm()
    torch.testing.assert_close(moment_distance({site.tensor: values}, [site]), expected)


def test_total_variation_is_zero_for_a_plane_and_two_for_a_chessboard() -> None:
    chessboard = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert float(total_variation(torch.ones(1, 3, 8, 8))) == 0
    assert float(total_variation(chessboard.float()[None, None])) == 2
