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
        CrispError: the arrays have different batches or none, or a count is below 1.
    """
    if min(workers, images) < 1:
        raise CrispError(f"{workers} workers and {images} images at a time: both must be 1 or more.")
    batches = {len(array) if array.ndim else 0 for array in feed.values()}
    if len(batches) != 1 or 0 in batches:
        found = ", ".join(f"{name}: {array.shape}" for name, array in feed.items())
        raise CrispError(f"The inputs must share one batch as their first axis, of one image or more. Found {found}.")

    def part(first: int) -> list[npt.NDArray[Any]]:
        return list(session.run(None, {name: array[first : first + images] for name, array in feed.items()}))

    firsts = range(0, batches.pop(), images)
    if workers == 1 or len(firsts) == 1:
        parts = [part(first) for first in firsts]
    else:
        with ThreadPoolExecutor(min(workers, len(firsts))) as pool:
            parts = list(pool.map(part, firsts))
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
