"""Intersection over union against plain loops over pixels, and its interval against drawing images one by one."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.task import Segmentation
from crisp_onnx.task.overlap import Overlap, interval, joined, overlaps

N, C, H, W = 4, 4, 5, 6
WANTED = (2, 0, 3)
TASK = Segmentation((0, 1, 2, 3), WANTED, "y", "y", grid=(H, W))


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(N, C, H, W)), random.choice([0, 1, 2, 3, 255, -1], (N, H, W))


def by_loops(answers: np.ndarray, labels: np.ndarray, among: tuple[int, ...], counts: tuple[int, ...]) -> list[float]:
    """IoU of each wanted class: the best of `among` at each pixel whose label is one of `counts`."""
    both, either = dict.fromkeys(WANTED, 0), dict.fromkeys(WANTED, 0)
    for n in range(N):
        for y in range(H):
            for x in range(W):
                if labels[n, y, x] in counts:
                    best = max(among, key=lambda c: answers[n, c, y, x])
                    for c in WANTED:
                        both[c] += best == c == labels[n, y, x]
                        either[c] += c in (best, labels[n, y, x])
    return [both[c] / either[c] for c in WANTED]


@pytest.mark.parametrize("class_axis", [1, 3])
def test_overlaps_are_those_of_plain_loops(class_axis: int) -> None:
    answers, labels = drawn()
    task = Segmentation((0, 1, 2, 3), WANTED, "y", "y", grid=(H, W), class_axis=class_axis)
    parts = [overlaps(np.moveaxis(answers[n : n + 2], 1, class_axis), labels[n : n + 2], task)[0] for n in (0, 2)]
    found = joined(parts)
    restricted = by_loops(answers, labels, WANTED, WANTED)
    over_all = by_loops(answers, labels, (0, 1, 2, 3), (0, 1, 2, 3, -1))
    assert found.restricted.iou() == pytest.approx(restricted)
    assert found.restricted.mean_iou() == pytest.approx(sum(restricted) / 3)
    assert found.all.iou() == pytest.approx(over_all)
    own = np.isin(labels, WANTED)
    assert found.all.pixel_accuracy == pytest.approx((answers.argmax(1) == labels)[own].mean())
    assert found.restricted.judged.sum() == own.sum()


def test_a_class_that_is_neither_shown_nor_answered_is_left_out_of_the_mean() -> None:
    counts = np.array([[3, 0, 0]]), np.array([[4, 5, 0]])
    found = Overlap(*counts, np.array([3]), np.array([9]))
    assert found.iou() == (0.75, 0.0, None) and found.mean_iou() == 0.375


def test_the_interval_is_that_of_images_drawn_anew_and_the_same_for_one_seed() -> None:
    random = np.random.default_rng(5)
    either = random.integers(20, 60, (40, 2))
    both = (either * random.uniform(0.3, 0.9, (40, 2))).astype(int)
    better = np.minimum(either, both + 3)
    first, second = (Overlap(b, either, b.sum(1), either.sum(1)) for b in (both, better))
    means, gains = [], []
    for _ in range(4000):
        rows = random.integers(0, 40, 40)
        one, two = ((b[rows].sum(0) / either[rows].sum(0)).mean() for b in (both, better))
        means.append(one)
        gains.append(two - one)
    assert interval(first) == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.006)
    assert interval(first, second) == pytest.approx(np.quantile(gains, (0.025, 0.975)), abs=0.004)
    assert interval(first, seed=3) == interval(first, seed=3) != interval(first, seed=4)
    assert interval(first)[0] < first.mean_iou() < interval(first)[1]
