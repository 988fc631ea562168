"""Run two segmentation models over images in ONNX Runtime and count what they say of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.data import Images, Preprocess
from crisp_onnx.data.pixel_labels import IGNORED
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.runtime.evaluate import maps_of
from crisp_onnx.task import Segmentation
from crisp_onnx.task.overlap import Overlaps, Shown, joined, overlaps

Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]

SHOWN = 6
SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class PixelComparison:
    """`models`: how each did on the same `n` images. `agreement`: pixels to which both give one class of the user's.

    Of all `pixels`, as many as the answers have, `ignored` have no label and `judged` are of the user's classes;
    agreement is over the latter. `shown`: some of the images.
    """

    models: tuple[Overlaps, Overlaps]
    agreement: int
    n: int
    pixels: int
    ignored: int
    judged: int
    shown: tuple[Shown, ...] = ()


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
    agreement = pixels = ignored = first = 0
    wanted = set(np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(int).tolist())
    pictures: list[Shown] = []
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
            for place in range(len(inputs)):
                if first + place in wanted:
                    maps = (labels_of[place].reshape(tasks[0].grid) for labels_of in (truth, *found))
                    pictures.append(_shown(first + place, inputs[place], images, *maps))
            first += len(inputs)
            advance(len(inputs))
    dense, compressed = (joined(part) for part in parts)
    judged = int(dense.restricted.judged.sum())
    return PixelComparison((dense, compressed), agreement, len(images), pixels, ignored, judged, tuple(pictures))


def _shown(number: int, row: Floats, images: Images, truth: Counts, dense: Counts, compressed: Counts) -> Shown:
    """`row`: the model's input (C, H, W) or (H, W, C)."""
    form = images.preprocess
    if isinstance(form, Preprocess):
        pixels = form.pixels(row[None])[0]
    else:
        last = row if row.shape[-1] in (1, 3) else np.moveaxis(row, 0, -1)
        low, high = float(last.min()), float(last.max())
        pixels = ((last - low) / max(high - low, SMALLEST) * 255).astype(np.uint8)
    coloured = pixels[:, :, :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[:, :, :1], 3, 2)
    return Shown(number, np.ascontiguousarray(coloured), truth, (dense, compressed))
