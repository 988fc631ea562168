"""Reordering the channels of every group that may be reordered leaves all answers as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from random_graphs import networks
from topologies import seeded, simplified

from crisp_onnx.errors import Defect
from crisp_onnx.groups import ChannelGroup, channel_groups, reorder
from crisp_onnx.model import Model, load, tensor_shapes, weight_layers

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
Answers = Callable[..., list[np.ndarray]]


def groups_of(model: Model) -> tuple[ChannelGroup, ...]:
    shapes = tensor_shapes(model)
    return channel_groups(model.graph(), weight_layers(model, shapes), shapes)


def reordered(model: Model, seed: int = 0) -> tuple[Model, int]:
    """The model with every movable group in a random order, and how many groups of more than one channel that were."""
    rng = np.random.default_rng(seed)
    graph = model.graph()
    movable = [group for group in groups_of(model) if group.movable]
    for group in movable:
        reorder(graph, group, rng.permutation(group.width))
    return model.with_graph(graph), sum(group.width > 1 for group in movable)


def assert_same(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    for one, other in zip(before, after, strict=True):
        assert one.shape == other.shape
        assert np.isfinite(one).all()
        assert np.abs(np.subtract(one, other, dtype=np.float64)).max() <= 1e-5 * max(1e-3, np.abs(one).max())


@given(networks())
@settings(max_examples=150)
def test_any_order_of_any_group_of_a_random_network_gives_the_same_answers(
    answers: Answers, exact_answers: Callable[[Model, np.ndarray], np.ndarray], model: Model
) -> None:
    image = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    other, _ = reordered(model)
    for one, two in zip(answers(model, image), answers(other, image), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * max(1e-3, np.abs(one).max()))  # of 32 bits
    exact = exact_answers(model, image)
    np.testing.assert_allclose(exact, exact_answers(other, image), rtol=0, atol=1e-12 * max(1e-3, np.abs(exact).max()))


@pytest.mark.parametrize("name", ["mobilenetv1_imagenet", "mobilenetv2_imagenet", "resnet18w32_cifar100"])
def test_real_models_answer_the_same_in_any_order(answers: Answers, shared_data: Path, name: str) -> None:
    model = simplified(load(shared_data / "models" / f"{name}.onnx"))
    moved, count = reordered(model)
    image = np.random.default_rng(1).standard_normal(model.input.fixed(1, (64, 64))).astype(np.float32)
    assert_same(answers(model, image), answers(moved, image))
    assert count >= 12


SLOW = {"bvlc_alexnet": 5, "densenet121": 120, "inception_v2": 69, "resnet50": 37, "vgg19": 18, "zfnet512": 5}
QUICK = {"squeezenet": 25, "inception_v1": 55, "shufflenet": 13}


@pytest.mark.parametrize(
    ("name", "groups"), [*QUICK.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())]
)
def test_well_known_topologies_answer_the_same_in_any_order(answers: Answers, name: str, groups: int) -> None:
    model = seeded(simplified(load(LIGHT / f"light_{name}.onnx")))
    moved, count = reordered(model)
    image = np.random.default_rng(1).standard_normal(model.input.fixed(1)).astype(np.float32)
    assert_same(answers(model, image), answers(moved, image))
    assert count == groups


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(("kind", "groups"), [("VisionTransformer", 5), ("UNet", 6)])
def test_exports_of_torch_answer_the_same_in_any_order(
    answers: Answers, torch_export: Callable[..., tuple[Model, object]], kind: str, groups: int, dynamo: bool
) -> None:
    model = simplified(torch_export(kind, dynamo)[0])
    moved, count = reordered(model)
    image = np.random.default_rng(1).standard_normal(model.input.fixed(2)).astype(np.float32)
    assert_same(answers(model, image), answers(moved, image))
    assert count == groups


def test_a_bound_group_and_an_order_that_is_none_are_refused(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] a, float[6,8,1,1] b>{ h = Conv(x, a) y = Conv(h, b) }"
    )
    free = next(group for group in groups_of(model) if group.movable)
    bound = next(group for group in groups_of(model) if not group.movable)
    with pytest.raises(Defect, match="graph input"):
        reorder(model.graph(), bound, range(bound.width))
    with pytest.raises(Defect, match="each once"):
        reorder(model.graph(), free, [0] * 8)
    with pytest.raises(Defect, match="8 channels"):
        reorder(model.graph(), free, range(7))
