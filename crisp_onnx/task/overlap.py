"""The score of a segmentation: intersection over union of each class, over all images, and how sure its mean is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.pixel_labels import IGNORED
from crisp_onnx.task.score import preferred
from crisp_onnx.task.segmentation import Segmentation

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

RESAMPLES = 1000
AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pixels of n images by class (n, k), in the order of the user's: `both` labelled and answered so, `either`.

    `right` (n,): pixels of the user's classes answered rightly, of `judged` (n,) such pixels.
    """

    both: Counts
    either: Counts
    right: Counts
    judged: Counts

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels of the user's classes that are answered rightly."""
        return float(self.right.sum() / max(1, self.judged.sum()))

    def iou(self) -> tuple[float | None, ...]:
        """Intersection over union of each class over all images; None for one that is neither shown nor answered."""
        both, either = self.both.sum(0), self.either.sum(0)
        return tuple(float(b / e) if e else None for b, e in zip(both, either, strict=True))

    def mean_iou(self) -> float:
        """The mean over the classes that are shown or answered."""
        known = [share for share in self.iou() if share is not None]
        return sum(known) / len(known) if known else 0.0


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How one model does: with its scores `restricted` to the user's classes, and over `all` outputs.

    Restricted, only pixels of the user's classes count. Over all outputs every labelled pixel does: one of another
    class that is answered with one of the user's is in the union of the latter.
    """

    restricted: Overlap
    all: Overlap


@dataclass(frozen=True, eq=False)
class Shown:
    """One image for people to look at, the `number`-th: uint8 (H, W, 3), and the classes of its pixels (h, w).

    `truth`: as labelled. `answers`: of the dense and of the compressed model, among the user's classes.
    """

    number: int
    image: npt.NDArray[np.uint8]
    truth: Counts
    answers: tuple[Counts, Counts]


def overlaps(answers: Floats, labels: Counts, task: Segmentation) -> tuple[Overlaps, Counts]:
    """Count the answers (n, ...) of the task's output against labels (n, H, W); the restricted answers (n, h w) too."""
    found, images = preferred(answers, task), len(labels)
    truth = task.truths(labels).reshape(images, -1)
    over_all, restricted = found.all.reshape(images, -1), found.wanted.reshape(images, -1)
    own, labelled = np.isin(truth, task.wanted), truth != IGNORED
    return (
        Overlaps(
            _counted(restricted, truth, own, own, task.wanted), _counted(over_all, truth, labelled, own, task.wanted)
        ),
        restricted,
    )


def joined(parts: Sequence[Overlaps]) -> Overlaps:
    """The overlaps of all images."""

    def of(pieces: list[Overlap]) -> Overlap:
        return Overlap(
            *(np.concatenate([getattr(piece, name) for piece in pieces]) for name in Overlap.__annotations__)
        )

    return Overlaps(of([part.restricted for part in parts]), of([part.all for part in parts]))


def interval(first: Overlap, second: Overlap | None = None, *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean IoU, or of what it gains from `first` to `second` on the same images.

    The percentile bootstrap over images (Efron 1979, Ann. Stat. 7, 1): the images are drawn anew with replacement.
    """
    random, images = np.random.default_rng(seed), len(first.judged)
    found: list[Floats] = []
    for _ in range(0, RESAMPLES, AT_ONCE):
        weights = random.multinomial(images, np.full(images, 1 / images), AT_ONCE)
        means = [_mean_iou(overlap, weights) for overlap in (first, second) if overlap is not None]
        found.append(means[0] if second is None else means[1] - means[0])
    low, high = np.quantile(np.concatenate(found)[:RESAMPLES], (0.025, 0.975))
    return float(low), float(high)


def _mean_iou(overlap: Overlap, weights: Counts) -> Floats:
    """The mean IoU under each set of weights (r, n) of the images."""
    both, either = weights @ overlap.both, weights @ overlap.either
    known = either > 0
    shares = np.where(known, both / np.maximum(either, 1), 0.0)
    means: Floats = shares.sum(1) / np.maximum(known.sum(1), 1)
    return means


def _counted(
    found: Counts, truth: Counts, seen: npt.NDArray[np.bool_], own: npt.NDArray[np.bool_], classes: Sequence[int]
) -> Overlap:
    """`seen`: the pixels that count for unions; `own`: those of the user's classes."""
    both, either = [], []
    for index in classes:
        answered, labelled = seen & (found == index), seen & (truth == index)
        both.append((answered & labelled).sum(1))
        either.append((answered | labelled).sum(1))
    right = (own & (found == truth)).sum(1)
    return Overlap(np.stack(both, 1), np.stack(either, 1), right, own.sum(1))
