"""Ask the untouched model about the user's images before anything is trained: near chance, something was misunderstood.

What is likely wrong is tried out on the same images: other preprocessing, another output, names that do not go together
with the outputs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.ways import WAYS
from crisp_onnx.data import PRESETS, Classes, Images, Preprocess, parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.runtime.evaluate import open_stock
from crisp_onnx.task import Classification, Segmentation, task_of
from crisp_onnx.task.score import preferred

log = logging.getLogger(__name__)

MOST_IMAGES = 256
# A model this share of the way from chance to perfect knows something of the images.
KNOWING = 0.2
CLEARLY_BETTER = 0.2
MOST_OF_A_CLASS = 0.6
MOST_PIXELS = 1 << 22
AT_ONCE_OF_PIXELS = 4
WORDS = (
    ("images", "names and outputs do not go together. Check --labels, --labels-offset and --class-order."),
    ("pixels", "labels and outputs do not go together. Check that the pixels of the labels are output indices."),
)
"""What is shown, and what to do where classes are answered by other outputs: of images, and of pixels."""
SAMPLED = 16
NAMED = 4


class Asked(Protocol):
    """What a look needs to know: a model, what its outputs mean, and images, where they are given."""

    @property
    def prepared(self) -> Prepared: ...
    @property
    def classes(self) -> Classes: ...
    @property
    def answers(self) -> Classification: ...
    @property
    def images(self) -> Images | None: ...
    @property
    def judged(self) -> Images | None: ...


@dataclass(frozen=True)
class _Sight:
    """What the model prefers for each image or pixel of a sample, over all columns and among the user's classes.

    `balanced`: a class counts like any other, however few pixels show it.
    """

    all: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    balanced: bool = False

    def right(self, classes: int) -> float:
        """Share of right answers: among the user's classes, or over all columns where there is one class."""
        return self._share(self.all if classes == 1 else self.wanted)

    def right_of_all(self) -> float:
        """Share of right answers over all columns."""
        return self._share(self.all)

    def _share(self, found: npt.NDArray[np.int64]) -> float:
        right = found == self.labels
        if not self.balanced:
            return float(right.mean())
        return float(np.mean([right[self.labels == index].mean() for index in np.unique(self.labels)]))


def first_look(asked: Asked) -> tuple[str, ...]:
    """What the user should know before training, which is logged as a warning too."""
    notes = _same_images(asked)
    labelled = [images for images in (asked.images, asked.judged) if images is not None and images.labelled]
    if not labelled:
        return notes
    session = open_stock(asked.prepared.source.path)
    for images in labelled if not notes else labelled[:1]:
        notes += _near_chance(session, asked, images, f" of {images.source}" if len(labelled) > 1 else "")
    return notes


def _near_chance(session: ort.InferenceSession, asked: Asked, images: Images, where: str) -> tuple[str, ...]:
    """A word on labelled images about which the model is right no more often than by chance, `where` if several are."""
    sample = _sample(images, asked.answers)
    seen = _look(session, sample, asked.answers)
    if not len(seen.labels):
        return ()
    classes = len(asked.answers.wanted)
    chance = 1 / (len(asked.answers.columns) if classes == 1 else classes)
    right = seen.right(classes)
    knowing = chance + KNOWING * (1 - chance)
    if right >= knowing:
        return _moved_columns(seen, asked, f"{len(sample)} of your images{where}")
    wanted = max(knowing, right + CLEARLY_BETTER)
    remedies = [
        *_other_names(seen, asked),
        *_other_outputs(session, asked, sample, wanted),
        *_other_preprocessing(session, asked, sample, wanted),
    ]
    likely = " ".join(remedies) or (
        f"Check --preprocess, {_checked(seen)}, and whether the images are of what the model was trained for."
    )
    among = f"among your {classes} classes" if classes > 1 else f"over its {len(asked.answers.columns)} outputs"
    note = (
        f"The untouched model is right about {100 * right:.1f} % of {_of_each(seen)}{len(sample)} of your "
        f"images{where} {among}; guessing is right about {100 * chance:.1f} %. {likely}"
    )
    log.warning(note)
    return (note,)


def _of_each(seen: _Sight) -> str:
    return "the pixels of each class, on average, in " if seen.balanced else ""


def _checked(seen: _Sight) -> str:
    """What says which class is which output."""
    if seen.balanced:
        return "that the pixels of the labels are output indices"
    return "--labels and --class-order"


def _moved_columns(seen: _Sight, asked: Asked, images: str) -> tuple[str, ...]:
    """A word on a model that tells the classes apart, but calls each, or some in a circle, by the output of another."""
    right = seen.right_of_all()
    moved = _moved(seen, asked)
    if right >= KNOWING and set(moved) != set(moved.values()):
        return ()
    notes = tuple(
        f"Over all its outputs the untouched model is right about {100 * right:.1f} % of {_of_each(seen)}{images}. "
        f"{sentence}"
        for sentence in _other_names(seen, asked)
    )
    for note in notes:
        log.warning(note)
    return notes


def _sample(images: Images, task: Classification) -> Images:
    """At most 256 images, evenly over the set and so over its classes, and at most four million pixels."""
    most = MOST_IMAGES
    if isinstance(task, Segmentation):
        most = max(1, min(most, MOST_PIXELS // (task.grid[0] * task.grid[1])))
    places = np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(np.int64)
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    return images.subset(np.argsort(labels, kind="stable")[places])


def _look(session: ort.InferenceSession, images: Images, task: Classification) -> _Sight:
    """At the pixels of the user's classes, or at all images."""
    pixels, answers = isinstance(task, Segmentation), WAYS[task.name].answers
    parts: list[tuple[npt.NDArray[np.int64], ...]] = []
    for inputs, labels in images.batches(AT_ONCE_OF_PIXELS if pixels else 32):
        if labels is None:
            continue
        found, truths = preferred(answers(session, inputs, task.output), task), task.truths(labels)
        own = np.isin(truths, task.wanted) if pixels else np.ones(len(truths), bool)
        parts.append((found.all[own], found.wanted[own], truths[own]))
    every, wanted, truths = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Sight(every, wanted, truths, balanced=pixels)


def _other_outputs(session: ort.InferenceSession, asked: Asked, sample: Images, wanted: float) -> Iterator[str]:
    """An output of as many columns by which the share `wanted` is right."""
    for head in asked.prepared.outputs.heads:
        if head.output != asked.answers.output and head.classes == len(asked.answers.columns):
            share = _look(session, sample, task_of(head, asked.answers.wanted)).right(len(asked.answers.wanted))
            if share >= wanted:
                yield f"By output {head.output!r} it is right about {100 * share:.1f} %: try --output-name."


def _other_preprocessing(session: ort.InferenceSession, asked: Asked, sample: Images, wanted: float) -> Iterator[str]:
    """The preset with which the model is right most often, if the share is that `wanted`."""
    if not isinstance(sample.preprocess, Preprocess):
        return
    spec, given = asked.prepared.source.input, sample.preprocess
    best, name = 0.0, ""
    for preset in PRESETS:
        for order in ("", ",order=bgr") if given.channels == 3 else ("",):
            size = f",size={given.size[0]}x{given.size[1]}"
            try:
                way = parse_preprocess(f"{preset}{size}{order}", spec)
            except CrispError:  # an input of whole pixels has one way alone
                continue
            tried = replace(sample, preprocess=replace(way, resize=given.resize, range=given.range))
            share = _look(session, tried, asked.answers).right(len(asked.answers.wanted))
            if share > best:
                best, name = share, f"{preset}{order}"
    if best >= wanted:
        yield f"With --preprocess {name} it is right about {100 * best:.1f} % of them."


def _other_names(seen: _Sight, asked: Asked) -> Iterator[str]:
    """Classes whose images the model answers with one other output each: names and outputs are mixed up."""
    names, moved = dict(zip(asked.classes.indices, asked.classes.names, strict=True)), _moved(seen, asked)
    if moved:
        shown, remedy = WORDS[seen.balanced]
        pairs = [f"{names[index]} ({index}) with output {answer}" for index, answer in list(moved.items())[:NAMED]]
        yield (f"It answers the {shown} of {', of '.join(pairs)}{', ...' if len(moved) > NAMED else ''}: {remedy}")


def _moved(seen: _Sight, asked: Asked) -> dict[int, int]:
    """By class, the other output that answers most of its images; none where that may be chance.

    It is not where half of the classes, or some among themselves, have changed places.
    """
    mostly = {}
    for index in asked.classes.indices:
        answers = seen.all[seen.labels == index]
        if len(answers):
            answer, count = Counter(answers.tolist()).most_common(1)[0]
            if count >= MOST_OF_A_CLASS * len(answers):
                mostly[index] = answer
    moved = {index: answer for index, answer in mostly.items() if answer != index}
    apart = len(set(mostly.values())) == len(mostly)
    many = len(moved) >= max(2, len(asked.classes.indices) / 2)
    return moved if moved and apart and (many or set(moved) == set(moved.values())) else {}


def _same_images(asked: Asked) -> tuple[str, ...]:
    """A word on images that judge what was learnt from them."""
    first, second = asked.images, asked.judged
    if first is None or second is None:
        return ()
    if not (_same_place(first.source, second.source) or _same_pixels(first, second)):
        return ()
    note = (
        "The images to judge by are those to learn from (--eval-data and --data hold the same), so accuracy is that on "
        "images that were learnt, and new ones fare worse."
    )
    log.warning(note)
    return (note,)


def _same_place(first: str, second: str) -> bool:
    paths = [Path(source.removeprefix("image folder ")) for source in (first, second)]
    return all(path.exists() for path in paths) and paths[0].resolve() == paths[1].resolve()


def _same_pixels(first: Images, second: Images) -> bool:
    """Whether as many images, of the same classes, begin and end and go on alike."""
    labels = [() if images.labels is None else images.labels.tolist() for images in (first, second)]
    if len(first) != len(second) or labels[0] != labels[1]:
        return False
    places = np.unique(np.linspace(0, len(first) - 1, min(SAMPLED, len(first))).round().astype(np.int64))
    pairs = zip(first.batches(SAMPLED, order=places), second.batches(SAMPLED, order=places), strict=True)
    return all(np.array_equal(one, other) for (one, _), (other, _) in pairs)
