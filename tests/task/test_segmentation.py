"""Pixels as rows: where they lie, which count, their loss, and which outputs of a graph hold them; by plain loops."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

import numpy as np
import pytest
import torch

from crisp_onnx.model import Model, tensor_shapes
from crisp_onnx.task import Segmentation
from crisp_onnx.task.loss import UNCOUNTED, imitation_loss, logits_of, truth_loss, truths_of
from crisp_onnx.task.maps import read_maps

ModelOf = Callable[..., Model]
N, C, H, W = 2, 4, 3, 5


def task(wanted: tuple[int, ...] = (2, 0), **options: object) -> Segmentation:
    settings = {"grid": (H, W), **options}
    return Segmentation((0, 1, 2, 3), wanted, "y", "y", **settings)  # type: ignore[arg-type]


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(0, 2, (N, C, H, W)).astype(np.float32), random.choice([0, 1, 2, 3, 255], (N, H, W))


def loss_by_loops(answers: np.ndarray, labels: np.ndarray, among: tuple[int, ...], counted: tuple[int, ...]) -> float:
    """Mean over the counted pixels of the negative log share among some classes."""
    losses = []
    for n in range(len(labels)):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[n, y, x] in counted:
                    total = sum(exp(answers[n, c, y, x]) for c in among)
                    losses.append(log(total) - answers[n, labels[n, y, x], y, x])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("class_axis", [1, 3])
def test_cross_entropy_is_over_the_pixels_and_the_scores_of_the_users_classes(class_axis: int) -> None:
    answers, labels = drawn()
    given = torch.from_numpy(np.moveaxis(answers, 1, class_axis).copy())
    found = truth_loss(logits_of(given, task(class_axis=class_axis)), torch.from_numpy(labels), task())
    assert float(found) == pytest.approx(loss_by_loops(answers, labels, (2, 0), (2, 0)), rel=1e-5)


def test_a_batch_without_a_pixel_of_the_users_classes_costs_nothing_and_has_gradients() -> None:
    answers = torch.from_numpy(drawn()[0]).requires_grad_()
    loss = truth_loss(logits_of(answers, task()), torch.full((N, H, W), 255), task())
    loss.backward()
    assert float(loss.detach()) == 0 and not answers.grad.any()


def test_imitation_is_the_mean_divergence_of_a_pixel() -> None:
    (student, _), (teacher, _) = drawn(0), drawn(1)
    total = 0.0
    for n in range(N):
        for y in range(H):
            for x in range(W):
                shares = [np.exp(a[n, :, y, x] / 2) for a in (student, teacher)]
                s, t = (share / share.sum() for share in shares)
                total += 4 * float((t * np.log(t / s)).sum())
    found = imitation_loss(*(logits_of(torch.from_numpy(a), task()) for a in (student, teacher)), task(), temperature=2)
    assert float(found) == pytest.approx(total / (N * H * W), rel=1e-4)


def test_without_labels_a_pixel_has_the_class_that_the_model_prefers_of_all_and_others_do_not_count() -> None:
    answers, _ = drawn()
    found = truths_of(logits_of(torch.from_numpy(answers), task()), None, task()).reshape(N, H, W)
    for n in range(N):
        for y in range(H):
            for x in range(W):
                best = max(range(C), key=lambda c: answers[n, c, y, x])
                assert int(found[n, y, x]) == (best if best in (2, 0) else UNCOUNTED)


def test_coarse_answers_take_the_label_in_the_middle_of_each_place() -> None:
    labels = np.arange(2 * 6 * 10).reshape(2, 6, 10)
    coarse = task(grid=(3, 5)).truths(labels).reshape(2, 3, 5)
    for y in range(3):
        for x in range(5):
            assert coarse[1, y, x] == labels[1, 2 * y + 1, 2 * x + 1]
    assert np.array_equal(task(grid=(6, 10)).truths(labels), labels.reshape(-1))
    assert task(grid=(6, 10)).truths(torch.from_numpy(labels)).tolist() == labels.reshape(-1).tolist()


@pytest.mark.parametrize("class_axis", [1, 3])
def test_mirrored_answers_are_those_of_the_mirror_image(class_axis: int) -> None:
    answers = np.moveaxis(drawn()[0], 1, class_axis)
    found = task(class_axis=class_axis).mirrored(torch.from_numpy(answers.copy()))
    assert np.array_equal(np.moveaxis(found.numpy(), class_axis, 1), drawn()[0][..., ::-1])


@pytest.mark.parametrize(
    ("body", "declared", "axis", "form", "logits"),
    [
        ("y = Conv(x, w)", "float[N,6,8,8] y", 1, "logits", "y"),
        ("z = Conv(x, w) y = Softmax <axis = 1> (z)", "float[N,6,8,8] y", 1, "probabilities", "z"),
        ("z = Conv(x, w) y = Sigmoid(z)", "float[N,6,8,8] y", 1, "probabilities", "z"),
        ("z = Conv(x, w) y = Transpose <perm = [0, 2, 3, 1]> (z)", "float[N,8,8,6] y", 3, "logits", "y"),
        (
            "z = Conv(x, w) s = Softmax <axis = 1> (z) y = Transpose <perm = [0, 2, 3, 1]> (s)",
            "float[N,8,8,6] y", 3, "probabilities", "y",
        ),
        ("p = MaxPool <kernel_shape=[2, 2], strides=[2, 2]> (x) y = Conv(p, w)", "float[N,6,4,4] y", 1, "logits", "y")
    ],
)  # fmt: skip
def test_maps_of_scores_are_found(
    model_of: ModelOf, body: str, declared: str, axis: int, form: str, logits: str
) -> None:
    model = model_of(f"(float[N,3,8,8] x) => ({declared}) <float[6,3,1,1] w> {{ {body} }}")
    found = read_maps(model, tensor_shapes(model))
    (head,) = found.heads
    assert head.maps is not None and head.maps.class_axis == axis
    assert (head.classes, head.form, head.logits) == (6, form, logits)
    assert len(head.classifier) == 1


@pytest.mark.parametrize(
    ("body", "declared", "said"),
    [
        ("z = Conv(x, w) y = ArgMax <axis = 1> (z)", "int64[N,1,8,8] y", "ArgMax"),
        ("z = Conv(x, w) y = Softmax <axis = 3> (z)", "float[N,6,8,8] y", "does not add up over the classes"),
        ("z = Conv(x, w) y = ReduceMean <axes = [2, 3], keepdims = 0> (z)", "float[N,6] y", "--task classification"),
        ("z = Conv(x, w) y = ReduceMean <axes = [1]> (z)", "float[N,1,8,8] y", "single number a pixel"),
    ],
)
def test_what_scores_no_pixels_says_why(model_of: ModelOf, body: str, declared: str, said: str) -> None:
    model = model_of(f"(float[N,3,8,8] x) => ({declared}) <float[6,3,1,1] w> {{ {body} }}")
    found = read_maps(model, tensor_shapes(model))
    assert not found.heads and said in found.others["y"]


SIDES = {  # of the image, of the map: whether it is one of the whole image
    ((16, 16), (16, 16)): True,
    ((16, 24), (8, 12)): True,
    ((513, 1025), (65, 129)): True,  # every eighth, rounded up
    ((65, 65), (32, 32)): True,
    ((8, 8), (16, 16)): True,
    ((16, 16), (12, 12)): False,  # two convolutions without padding
    ((572, 572), (388, 388)): False,  # the first U-Net
    ((64, 64), (30, 30)): False,
    ((16, 16), (8, 4)): False,
}


@pytest.mark.parametrize(("image", "places"), SIDES)
def test_a_map_that_may_be_the_centre_of_the_image_alone_is_refused(
    model_of: ModelOf, image: tuple[int, int], places: tuple[int, int]
) -> None:
    (high, wide), (rows, columns) = image, places
    model = model_of(
        f"(float[N,3,{high},{wide}] x) => (float[N,6,{rows},{columns}] y) "
        f"<float[6,3,1,1] w, int64[2] s = {{{rows},{columns}}}> "
        "{ c = Conv(x, w) n = Constant <value_ints = [1, 6]> () s4 = Concat <axis = 0> (n, s) "
        'y = Resize <mode = "nearest"> (c, , , s4) }'
    )
    found = read_maps(model, {"x": (1, 3, *image), "y": (1, 6, *places), "c": (1, 6, *image)})
    assert bool(found.heads) == SIDES[image, places]
    if not found.heads:
        assert "no whole part of it" in found.others["y"]


@pytest.mark.parametrize(
    ("body", "axis"),
    [
        ("y = Conv(x, w)", 1),
        ("z = Conv(x, w) y = Transpose <perm = [0, 2, 3, 1]> (z)", 3),
        ("z = Conv(x, w) t = Transpose <perm = [0, 2, 3, 1]> (z) y = Softmax <axis = -1> (t)", 3),
        ("z = Conv(x, w) s = Softmax <axis = 1> (z) y = Transpose <perm = [0, 2, 3, 1]> (s)", 3),
        (
            "z = Conv(x, w) t = Transpose <perm = [0, 2, 3, 1]> (z) s = Softmax <axis = 3> (t) "
            "y = Transpose <perm = [0, 3, 1, 2]> (s)",
            1,
        ),
    ],
)
def test_as_many_classes_as_pixels_on_a_side_are_told_by_the_graph(model_of: ModelOf, body: str, axis: int) -> None:
    model = model_of(f"(float[N,3,8,8] x) => (float[N,8,8,8] y) <float[8,3,1,1] w> {{ {body} }}")
    (head,) = read_maps(model, tensor_shapes(model)).heads
    assert head.maps is not None and head.maps.class_axis == axis
    assert len(head.classifier) == 1


def test_a_softmax_over_a_side_of_as_many_pixels_as_classes_is_no_softmax_over_classes(model_of: ModelOf) -> None:
    body = "z = Conv(x, w) y = Softmax <axis = 3> (z)"
    model = model_of(f"(float[N,3,8,8] x) => (float[N,8,8,8] y) <float[8,3,1,1] w> {{ {body} }}")
    found = read_maps(model, tensor_shapes(model))
    assert not found.heads and "does not add up over the classes" in found.others["y"]
