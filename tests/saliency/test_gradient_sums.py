"""Gradient saliency against plain autograd, image by image and batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import coloured_images, residual_classifier

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.data import Classes, Images, open_images, parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load, weight_layers
from crisp_onnx.saliency import Sums, collect, criterion_named, gradient_sums
from crisp_onnx.saliency.inputs import input_sums
from crisp_onnx.task import Classification

ModelOf = Callable[..., Model]
CLASSES = (4, 1, 2)
TASK = Classification(tuple(range(6)), CLASSES, "logits", "logits")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(residual_classifier(tmp_path_factory.mktemp("model") / "small.onnx"))


@pytest.fixture(scope="module")
def images(model: Model) -> Images:
    classes = Classes(CLASSES, tuple(map(str, CLASSES)))
    return open_images(coloured_images(6), classes, None, parse_preprocess("signed", model.input))


def by_hand(module: GraphModule, images: Images, name: str, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean |g| and mean g^2 with a cross-entropy written out."""
    weight = dict(module.named_parameters())[name]
    absolute, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for inputs, labels in images.batches(batch_size):
        assert labels is not None
        logits = module.eval()(torch.from_numpy(inputs))
        log = logits - logits.logsumexp(1, keepdim=True)
        loss = -torch.stack([log[i, int(label)] for i, label in enumerate(labels)]).mean()
        (gradient,) = torch.autograd.grad(loss, [weight])
        absolute += gradient.abs() * len(inputs) / len(images)
        square += gradient**2 * len(inputs) / len(images)
    return absolute, square


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_the_means_are_those_of_plain_autograd(model: Model, images: Images, batch_size: int) -> None:
    module = to_torch(model)
    sums = gradient_sums(module, ["conv1.weight", "conv2.weight"], images, TASK, batch_size=batch_size)
    means = [found.means() for found in (sums.absolute, sums.square)]
    for name in ("conv1.weight", "conv2.weight"):
        absolute, square = by_hand(module, images, name, batch_size)
        torch.testing.assert_close(means[0][name], absolute)
        torch.testing.assert_close(means[1][name], square)


def test_gradients_of_several_outputs_add_up_by_their_sizes(model_of: ModelOf) -> None:
    text = (
        "(float[N,3,8,8] x) => (float[N,6] a, float[N,4] b) <float[5,3,3,3] k, float[5,6] v, float[5,4] w>"
        "{ c = Conv(x, k) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) a = MatMul(f, v) b = MatMul(f, w) }"
    )
    model = model_of(text)
    classes = Classes(CLASSES, tuple(map(str, CLASSES)))
    pictures = open_images(coloured_images(4), classes, None, parse_preprocess("signed", model.input))
    beside = Classification(tuple(range(4)), tuple(range(4)), "b", "b")
    both = replace(TASK, output="a", logits="a", beside=(beside,))
    names = ["k", "v", "w"]
    found = gradient_sums(to_torch(model, both.trained), names, pictures, both, batch_size=4)
    first = gradient_sums(to_torch(model, ("a",)), ["k", "v"], pictures, replace(both, beside=()), batch_size=4)
    second = gradient_sums(
        to_torch(model, ("b",)), ["k", "w"], replace(pictures, labels=None), beside, batch_size=4
    )  # fmt: skip
    totals, one, other = (sums.absolute.totals for sums in (found, first, second))
    torch.testing.assert_close(totals["k"], one["k"] + other["k"])
    torch.testing.assert_close(totals["v"], one["v"])
    torch.testing.assert_close(totals["w"], other["w"])


def test_nothing_in_the_module_moves(model: Model, images: Images) -> None:
    module = to_torch(model)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gradient_sums(module, ["conv1.weight"], images, TASK)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_masked_weights_keep_their_gradient(model: Model, images: Images) -> None:
    module = to_torch(model)
    mask = torch.ones_like(dict(module.named_parameters())["conv1.weight"], dtype=torch.bool)
    mask[:, ::2] = False
    module.set_masks({"conv1.weight": mask})
    sums = gradient_sums(module, ["conv1.weight"], images, TASK)
    assert sums.absolute.totals["conv1.weight"][~mask].count_nonzero() > 0.9 * (~mask).sum()


def test_other_classes_give_another_saliency_than_other_images_of_the_same_classes(model: Model) -> None:
    preprocess = parse_preprocess("signed", model.input)

    def saliency(chosen: tuple[int, ...], seed: int) -> torch.Tensor:
        classes = Classes(chosen, tuple(map(str, chosen)))
        pictures = open_images(coloured_images(12, seed), classes, None, preprocess)
        sums = gradient_sums(to_torch(model), ["conv1.weight"], pictures, replace(TASK, wanted=chosen))
        return sums.absolute.totals["conv1.weight"].flatten()

    base, same, other = saliency((0, 1, 2), 0), saliency((0, 1, 2), 1), saliency((3, 4, 5), 0)
    likeness = torch.corrcoef(torch.stack([base, same, other]))
    assert likeness[0, 1] > likeness[0, 2] + 0.02


def test_one_class_alone_still_has_a_signal(model: Model) -> None:
    images = open_images(coloured_images(6), Classes((3,), ("3",)), None, parse_preprocess("signed", model.input))
    sums = gradient_sums(to_torch(model), ["conv1.weight"], images, replace(TASK, wanted=(3,)))
    assert float(sums.absolute.totals["conv1.weight"].sum()) > 0


def test_a_model_that_ends_in_softmax_gives_the_saliency_of_its_logits(
    tmp_path: Path, model: Model, images: Images
) -> None:
    probable = load(residual_classifier(tmp_path / "softmax.onnx", softmax=True))
    expected = gradient_sums(to_torch(model), ["conv1.weight"], images, TASK)
    found = gradient_sums(to_torch(probable), ["conv1.weight"], images, replace(TASK, logits_form="probabilities"))
    # Probabilities of 1e-12 and less are clipped, which the random logits here reach now and then.
    correlation = torch.corrcoef(torch.stack([m.absolute.totals["conv1.weight"].flatten() for m in (expected, found)]))[
        0, 1
    ]
    assert correlation > 0.99


def test_wanda_multiplies_with_the_norm_of_the_inputs_of_each_tap(model: Model, images: Images) -> None:
    module = to_torch(model)
    layers = [layer for layer in weight_layers(model) if layer.name in ("conv1", "fc")]
    norms = collect(criterion_named("wanda"), module, model, layers, images=images, task=TASK)
    taps = torch.zeros(32, 3, 3)
    features = torch.zeros(32)
    for inputs, _ in images.batches(5):
        with torch.no_grad():
            seen = module.run({"image": torch.from_numpy(inputs)}, ["stem_relu", "flat"])
        padded = torch.nn.functional.pad(seen["stem_relu"], (1, 1, 1, 1))
        for ky in range(3):
            for kx in range(3):
                taps[:, ky, kx] += padded[:, :, ky : ky + 12, kx : kx + 12].square().sum((0, 2, 3))
        features += seen["flat"].square().sum(0)
    torch.testing.assert_close(norms["conv1.weight"][0], taps.sqrt())
    torch.testing.assert_close(norms["fc.weight"][0], features.sqrt())


def test_scaling_a_layer_and_unscaling_the_next_leaves_crisp_and_fisher_as_they_are(
    model: Model, images: Images
) -> None:
    def scores(name: str, factor: float) -> torch.Tensor:
        module = to_torch(model)
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            parameters["conv1.weight"].mul_(factor)
            module._buffers["conv1.bn.mean"].mul_(factor)  # type: ignore[union-attr]
            module._buffers["conv1.bn.var"].mul_(factor**2)  # type: ignore[union-attr]
        layers = [layer for layer in weight_layers(model) if layer.name == "conv1"]
        statistic = collect(criterion_named(name), module, model, layers, images=images, task=TASK)
        return criterion_named(name).score(parameters["conv1.weight"].detach(), statistic["conv1.weight"])

    for name in ("crisp", "fisher"):
        torch.testing.assert_close(scores(name, 8.0), scores(name, 1.0), rtol=2e-3, atol=1e-9)


def test_random_saliency_repeats_with_its_seed_and_changes_with_another(model: Model, images: Images) -> None:
    layers = [layer for layer in weight_layers(model) if layer.name == "conv1"]

    def draw(seed: int) -> np.ndarray:  # type: ignore[type-arg]
        module = to_torch(model)
        found = collect(criterion_named("random"), module, model, layers, images=images, task=TASK, seed=seed)
        return found["conv1.weight"].numpy()

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


@pytest.mark.parametrize("cut", [4, 8, 12])
def test_sums_of_shards_add_up_to_those_of_the_whole(model: Model, images: Images, cut: int) -> None:
    shards = (images.subset(range(cut)), images.subset(range(cut, len(images))))
    names = ["conv1.weight", "conv2.weight"]
    whole = gradient_sums(to_torch(model), names, images, TASK, batch_size=4)
    first, second = (gradient_sums(to_torch(model), names, shard, TASK, batch_size=4) for shard in shards)
    for merged in (first.merge(second), second.merge(first)):
        assert merged.absolute.images == merged.square.images == len(images)
        for name in names:
            torch.testing.assert_close(merged.absolute.means()[name], whole.absolute.means()[name])
            torch.testing.assert_close(merged.square.totals[name], whole.square.totals[name])


def test_sums_of_inputs_add_up_too(model: Model, images: Images) -> None:
    layers = [layer for layer in weight_layers(model) if layer.name in ("conv1", "fc")]

    def squares(part: Images) -> Sums:
        return input_sums("input_norm", to_torch(model), layers, model.graph(), part, batch_size=5)

    merged = squares(images.subset(range(7))).merge(squares(images.subset(range(7, len(images)))))
    for name, total in squares(images).totals.items():
        torch.testing.assert_close(merged.totals[name], total)


def test_channels_are_judged_by_their_norms_and_by_how_often_they_fire(model: Model, images: Images) -> None:
    layers = [layer for layer in weight_layers(model) if layer.name == "conv2"]
    module = to_torch(model)
    (x,) = (x for x, _ in images.batches(len(images)))
    read = next(node.inputs[0] for node in module.nodes if node.name == "conv2")
    with torch.no_grad():
        seen = module.run({module.input_names[0]: torch.from_numpy(x)}, [read])[read].numpy()
    expected = {
        "act-l2": np.sqrt(np.square(seen).sum((2, 3))).mean(0),
        "firing": (seen != 0).mean((0, 2, 3)),
    }
    for name, means in expected.items():
        found = collect(criterion_named(name), module, model, layers, images=images, task=TASK, batch_size=4)
        np.testing.assert_allclose(found["conv2.weight"].reshape(-1), means, rtol=1e-4)
        assert found["conv2.weight"].shape == (1, len(means), 1, 1)
    assert expected["firing"].min() < 1


def test_sums_of_different_weights_do_not_add_up() -> None:
    one = Sums({"a": torch.ones(2)}, 3)
    for other in (Sums({"b": torch.ones(2)}, 3), Sums({"a": torch.ones(3)}, 3)):
        with pytest.raises(CrispError, match="different weights"):
            one.merge(other)
