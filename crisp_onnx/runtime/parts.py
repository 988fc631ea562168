"""Run a batch in parts, an image each on a core of its own, so that activations stay in that core's caches."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.errors import CrispError

Arrays = Mapping[str, npt.NDArray[Any]]


def run_in_parts(
    session: ort.InferenceSession, feed: Arrays, *, workers: int = 1, images: int = 1
) -> list[npt.NDArray[Any]]:
    """What `session.run(None, feed)` answers, computed `images` at a time by `workers` threads.

    A compressed layer computes so little that a whole batch of activations, which no cache holds, takes longer to move
    than to compute on. Open the session with `threads=1` where there are several workers: each then keeps to its core.

    Args:
        feed: arrays that share their first axis, the batch, which the model must leave open or fix at `images`.

    Raises:
        CrispError: the arrays have different batches or none, or one that leaves a rest for a model of fixed batch; an
            output has no row for every image; or a count is below 1.
    """
    if min(workers, images) < 1:
        raise CrispError(f"{workers} workers and {images} images at a time: both must be 1 or more.")
    batches = {len(array) if array.ndim else 0 for array in feed.values()}
    if len(batches) != 1 or 0 in batches:
        found = ", ".join(f"{name}: {array.shape}" for name, array in feed.items())
        raise CrispError(f"The inputs must share one batch as their first axis, of one image or more. Found {found}.")

    batch = batches.pop()
    fixed = {value.shape[0] for value in session.get_inputs() if value.shape and isinstance(value.shape[0], int)}
    if fixed and (fixed != {images} or batch % images):
        sizes = " and ".join(map(str, sorted(fixed)))
        raise CrispError(f"The model takes {sizes} images at a time: {batch} cannot be given it {images} at a time.")

    def part(first: int) -> list[npt.NDArray[Any]]:
        inputs = {name: array[first : first + images] for name, array in feed.items()}
        return _rows_of_images(session, inputs, min(images, batch - first))

    firsts = range(0, batch, images)
    if workers == 1 or len(firsts) == 1:
        parts = [part(first) for first in firsts]
    else:
        with ThreadPoolExecutor(min(workers, len(firsts))) as pool:
            parts = list(pool.map(part, firsts))
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _rows_of_images(session: ort.InferenceSession, inputs: Arrays, images: int) -> list[npt.NDArray[Any]]:
    """The outputs, each with a row for every image, so that those of all parts can be put together."""
    outputs: list[npt.NDArray[Any]] = list(session.run(None, inputs))
    for value, output in zip(session.get_outputs(), outputs, strict=True):
        if not output.ndim or len(output) != images:
            raise CrispError(
                f"The model's output {value.name} has shape {output.shape} for {images} images: what has no row for "
                "every image cannot be put together from parts. Run the batch at once."
            )
    return outputs
