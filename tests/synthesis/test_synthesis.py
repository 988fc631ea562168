"""Images synthesised from a model: it sees the classes in them, they fit its input, and the seed decides them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import SIDE, coloured_images, residual_classifier

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.data import Classes, Images, open_images, parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load
from crisp_onnx.synthesis.ascent import FEWEST_STEPS, MOST_MACS, Effort, effort_for, synthesise
from crisp_onnx.synthesis.moments import batch_norm_sites, moment_distance
from crisp_onnx.synthesis.spectrum import shifted
from crisp_onnx.task import Classification

CLASSES = (4, 1, 2)
TASK = Classification(tuple(range(6)), CLASSES, "logits", "logits")
EFFORT = Effort(per_class=4, steps=100, rate=0.3)
DARK_OR_BRIGHT = Classification((0, 1), (0, 1), "y", "y")


ModelOf = Callable[..., Model]


def first_channel(model_of: ModelOf, *, shape: str = "N,3,8,8", slope: float = 20.0, pool: str = "") -> Model:
    """Answers how dark and how bright the first channel is; `pool` is a node from `channel` to `seen`."""
    axis = 3 if shape.endswith(",3") else 1
    return model_of(
        f"""(float[{shape}] x) => (float[N,2] y) <float[1,2] weight, float[2] bias> {{
          first = Constant <value_int = 0> ()
          channel = Gather <axis = {axis}> (x, first)
          {pool or "seen = Identity (channel)"}
          mean = ReduceMean <axes = [1, 2], keepdims = 0> (seen)
          column = Constant <value_ints = [1]> ()
          bright = Unsqueeze (mean, column)
          y = Gemm (bright, weight, bias)
        }}""",
        weight=[[-slope, slope]],
        bias=[0.5 * slope, -0.5 * slope],
    )


@pytest.fixture(scope="module", params=[True, False], ids=["with BatchNorm", "without"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    return load(residual_classifier(path, batch_norm=request.param))


def drawn(model: Model, preprocess: str = "signed", seed: int = 0) -> tuple[GraphModule, Images]:
    module = to_torch(model).eval()
    return module, synthesise(module, TASK, parse_preprocess(preprocess, model.input), seed=seed, effort=EFFORT)


def test_the_model_sees_the_wanted_class_in_each_image(model: Model) -> None:
    module, images = drawn(model)
    inputs, labels = next(images.batches(64))
    with torch.no_grad():
        among = module(torch.from_numpy(inputs))[:, list(CLASSES)].argmax(1).numpy()
    assert labels is not None
    assert sorted(np.unique(labels).tolist()) == [1, 2, 4]
    # An untrained network answers mirrored and shifted images, and its BatchNorm statistics, as it happens; a third
    # would be chance.
    assert np.mean(np.asarray(CLASSES)[among] == labels) > 0.6


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
    synthesise(module, TASK, parse_preprocess("unit", model.input), effort=EFFORT)
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
    images = synthesise(module, TASK, real.preprocess, effort=EFFORT)
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
    of_means = (mean - site.mean).norm() / site.variance.sum().sqrt()
    expected = of_means + (variance - site.variance).norm() / site.variance.norm()
    torch.testing.assert_close(moment_distance({site.tensor: values}, [site]), expected)


def test_a_model_of_one_class_and_one_that_ends_in_softmax_are_no_exceptions(tmp_path: Path) -> None:
    with_softmax = load(residual_classifier(tmp_path / "small.onnx", softmax=True))
    module = to_torch(with_softmax)
    preprocess = parse_preprocess("unit", with_softmax.input)
    task = replace(TASK, wanted=(3,), logits_form="probabilities")
    one = synthesise(module, task, preprocess, effort=EFFORT)
    inputs, labels = next(one.batches(64))
    with torch.no_grad():
        sure = module(torch.from_numpy(inputs))[:, 3]
    assert labels is not None
    assert labels.tolist() == [3] * 4
    assert float(sure.min()) > 1 / 6


@pytest.mark.parametrize(("shape", "order"), [("N,3,8,8", "rgb"), ("N,8,8,3", "rgb"), ("N,3,8,8", "bgr")])
def test_layout_and_order_reach_the_model_as_the_preprocessing_says(model_of: ModelOf, shape: str, order: str) -> None:
    """The class is the first channel's brightness: whatever the layout, the pixels must show it in that channel."""
    model = first_channel(model_of, shape=shape)
    module, preprocess = to_torch(model), parse_preprocess(f"unit,order={order}", model.input)
    images = synthesise(module, DARK_OR_BRIGHT, preprocess, effort=Effort(4, steps=60))
    inputs, labels = next(images.batches(8))
    with torch.no_grad():
        answers = module(torch.from_numpy(inputs)).argmax(1).numpy()
    np.testing.assert_array_equal(answers, labels)


def test_no_steps_give_smooth_noise_at_once(model_of: ModelOf) -> None:
    model = first_channel(model_of, shape="N,3,32,32")
    preprocess = parse_preprocess("unit", model.input)
    noise = synthesise(to_torch(model), DARK_OR_BRIGHT, preprocess, effort=Effort(8, steps=0))
    ((inputs, _),) = noise.batches(16)
    neighbours = np.abs(np.diff(inputs, axis=-1)).mean()
    # Independent pixels differ from each other by the square root of two times as much as from their mean.
    assert neighbours < np.abs(inputs - inputs.mean((2, 3), keepdims=True)).mean()


def test_shifted_images_are_the_same_scene_moved_or_mirrored() -> None:
    images = torch.arange(40.0).expand(1, 1, 40, 40)  # brightness grows by one a column
    generator = torch.Generator().manual_seed(0)
    seen = {tuple(shifted(images, generator)[0, 0, 20, 15:25].tolist()) for _ in range(50)}
    slopes = {row[1] - row[0] for row in seen}
    assert slopes == {1.0, -1.0}
    assert {abs(row[i + 1] - row[i]) for row in seen for i in range(9)} == {1.0}
    assert max(abs(row[4] - 19) for row in seen) <= 5


def test_gradients_that_are_not_finite_are_an_error_in_a_sentence(model_of: ModelOf) -> None:
    model = first_channel(model_of, slope=float("nan"))
    preprocess = parse_preprocess("unit", model.input)
    with pytest.raises(CrispError, match="gradients are not finite"):
        synthesise(to_torch(model), DARK_OR_BRIGHT, preprocess, effort=EFFORT)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [("", {48, 96}), ("sides = Constant <value_ints = [-1, 96, 96]> () seen = Reshape (channel, sides)", {96})],
    ids=["any size", "a Reshape to the full size"],
)
def test_large_images_are_first_optimised_at_half_size_where_the_network_can(
    model_of: ModelOf, monkeypatch: pytest.MonkeyPatch, pool: str, expected: set[int]
) -> None:
    model = first_channel(model_of, shape="N,3,96,96" if pool else "N,3,H,W", pool=pool)
    module, sides = to_torch(model), set()
    run = module.run

    def watched(inputs: dict[str, torch.Tensor], outputs: list[str]) -> dict[str, torch.Tensor]:
        if torch.is_grad_enabled():
            sides.add(inputs["x"].shape[-1])
        return run(inputs, outputs)

    monkeypatch.setattr(module, "run", watched)
    preprocess = parse_preprocess("unit,size=96", model.input)
    synthesise(module, DARK_OR_BRIGHT, preprocess, effort=Effort(1, steps=4))
    assert sides == expected


def test_the_default_effort_bounds_the_number_of_images() -> None:
    assert effort_for((32, 32), 10, macs=139_000_000).per_class == 32
    assert effort_for((224, 224), 10, macs=570_000_000).per_class == 8
    assert effort_for((224, 224), 1, macs=0).per_class == 32
    assert effort_for((224, 224), 1000, macs=0).per_class == 1


@given(st.integers(1, 1000), st.integers(0, 10**11))
def test_the_default_effort_bounds_the_work_by_fewer_images_and_then_by_fewer_steps(classes: int, macs: int) -> None:
    effort = effort_for((224, 224), classes, macs)
    least = effort.per_class == 1 and effort.steps == FEWEST_STEPS
    assert least or 2 * macs * effort.per_class * classes * effort.steps <= MOST_MACS
    assert effort.steps == Effort.steps or effort.per_class == 1
