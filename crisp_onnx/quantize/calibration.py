"""Calibration: how the values of tensors are spread over the user's images, in one pass and little memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model
from crisp_onnx.model.answers import Runner, open_model
from crisp_onnx.progress import bar
from crisp_onnx.reading import reason

BINS = 2048
LEAST_WIDTH = 1e-3
"""Of a range, over the value where it begins: a tensor may hold one value alone."""
MOST_IMAGES = 128
BATCH = 8
MOST_COUNTED = 1 << 16
"""Values of one tensor and batch that the histogram counts, evenly spread over it; the range is that of all."""


@dataclass(frozen=True)
class Seen:
    """The values of one tensor: from `low` to `high`, and how many lie in each of `BINS` equal parts between."""

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each part."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5), np.float64)


NOTHING = Seen(np.inf, -np.inf, np.zeros(BINS, np.int64))


def look_at(model: Model, tensors: Sequence[str], images: Images, *, batch: int | None = None) -> dict[str, Seen]:
    """Spread of the named tensors over at most 128 of the images, every class alike.

    Tensors with values that are not finite, such as scores of attention under a mask, have none and are left out.
    `batch`: images that the model answers at a time; None for any number.

    Raises:
        CrispError: the model does not run on the images.
    """
    chosen = sample(images, MOST_IMAGES)
    size = batch or BATCH
    runner = open_model(model, tensors)
    seen = dict.fromkeys(tensors, NOTHING)
    with bar("calibration", len(chosen)) as advance:
        for count, values in _values(runner, model, tensors, chosen, size):
            for name, array in values.items():
                seen[name] = widened(seen[name], array)
            advance(count)
    return {name: found for name, found in seen.items() if np.isfinite([found.low, found.high]).all()}


def widened(seen: Seen, values: npt.NDArray[np.float32]) -> Seen:
    """What was seen with `values` besides; counts of a narrower range go to where their middles lie."""
    if not values.size:
        return seen
    low, high = float(np.minimum(seen.low, values.min())), float(np.maximum(seen.high, values.max()))  # NaN stays NaN
    if not np.isfinite([low, high]).all():
        return Seen(low, high, seen.counts)
    high = max(high, low + LEAST_WIDTH * max(abs(low), LEAST_WIDTH))
    counts = seen.counts
    if (low, high) != (seen.low, seen.high) and counts.any():
        counts = np.histogram(seen.centres, BINS, (low, high), weights=counts)[0].astype(np.int64)
    flat = values.reshape(-1)
    part = flat[:: -(-len(flat) // MOST_COUNTED)]
    return Seen(low, high, counts + np.histogram(part, BINS, (low, high))[0])


def sample(images: Images, most: int) -> Images:
    """At most so many of the images, evenly over the set and so over its classes."""
    places = np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(np.int64)
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    return images.subset(np.argsort(labels, kind="stable")[places])


def _values(
    runner: Runner, model: Model, tensors: Sequence[str], images: Images, size: int
) -> Iterator[tuple[int, Mapping[str, npt.NDArray[np.float32]]]]:
    """Images shown, and what the tensors hold of them. A short batch is filled up with its own images."""
    spec = model.input
    for inputs, _ in images.batches(size):
        rows = np.arange(size) % len(inputs) if spec.shape and spec.shape[0] is not None else np.arange(len(inputs))
        fed = inputs[rows].astype(spec.dtype, copy=False)
        try:
            found = runner.run({spec.name: fed}, tensors)
        except Exception as error:  # onnxruntime raises many unrelated types
            raise CrispError(f"ONNX Runtime cannot run {model.path.name} on your images: {reason(error)}") from error
        yield len(inputs), found
