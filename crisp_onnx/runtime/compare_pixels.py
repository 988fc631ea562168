"""Run two segmentation models over images in ONNX Runtime and count what they say of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from crisp_onnx.data import Images
from crisp_onnx.data.pixel_labels import IGNORED
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.runtime.evaluate import maps_of
from crisp_onnx.task import Segmentation
from crisp_onnx.task.overlap import Overlaps, joined, overlaps


@dataclass(frozen=True, eq=False)
class PixelComparison:
    """`models`: how each did on the same `n` images. `agreement`: pixels to which both give one class of the user's.

    Of all `pixels`, as many as the answers have, `ignored` have no label and `judged` are of the user's classes;
    agreement is over the latter.
    """

    models: tuple[Overlaps, Overlaps]
    agreement: int
    n: int
    pixels: int
    ignored: int
    judged: int


def compare_pixels(
    sessions: tuple[ort.InferenceSession, ort.InferenceSession],
    tasks: tuple[Segmentation, Segmentation],
    images: Images,
    *,
    batch_size: int = 8,
) -> PixelComparison:
    """Run both models, each with its task, over all images with labels once.

    Raises:
        CrispError: the images have no labels, or ONNX Runtime cannot run a model on them.
    """
    parts: tuple[list[Overlaps], list[Overlaps]] = ([], [])
    agreement = pixels = ignored = 0
    with bar("accuracy", len(images)) as advance:
        for inputs, labels in images.batches(batch_size):
            if labels is None:
                raise CrispError(f"{images.source} has no labels, so accuracy cannot be measured on it.")
            truth = tasks[0].truths(labels).reshape(len(labels), -1)
            found = []
            for session, task, part in zip(sessions, tasks, parts, strict=True):
                counted, answered = overlaps(maps_of(session, inputs, task.output), labels, task)
                part.append(counted)
                found.append(answered)
            agreement += int(((found[0] == found[1]) & np.isin(truth, tasks[0].wanted)).sum())
            pixels += truth.size
            ignored += int((truth == IGNORED).sum())
            advance(len(inputs))
    first, second = (joined(part) for part in parts)
    judged = int(first.restricted.judged.sum())
    return PixelComparison((first, second), agreement, len(images), pixels, ignored, judged)
