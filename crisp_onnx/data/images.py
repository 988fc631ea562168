"""`Images`: labelled images of the user's classes, decoded batch by batch and never all in memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.values import AsIs
from crisp_onnx.errors import CrispError

Indices = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Batch = tuple[Array, Indices | None]

DECODING_THREADS = 2
ROWS_PER_TASK = 16
BATCHES_AHEAD = 2


InputForm = Preprocess | AsIs
"""How images become the model's input: pixels through a preprocessing, or values as they are."""


class Store(Protocol):
    """Where the images are. Rows are read from several threads at once."""

    def read(self, rows: Indices, form: Any) -> Array:
        """Fitted pixels (len(rows), h, w, channels) of the given rows, or their values; `form` is the images' own.

        Raises:
            CrispError: an image is corrupt; the message says which.
        """

    def content(self, rows: Indices) -> Iterator[bytes]:
        """What the rows hold, in their order, as it is stored: other bytes are other images."""


class PixelLabels(Protocol):
    """Where the labels of pixels are, a map for each row of the images' store. Read from several threads at once."""

    def read(self, rows: Indices, form: Any) -> Indices:
        """Output indices (len(rows), h, w) of the pixels that the store gives of these rows, and `IGNORED`."""

    def content(self, rows: Indices) -> Iterator[bytes]:
        """What the rows hold, in their order, as it is stored."""


@dataclass(frozen=True, eq=False)
class Images:
    """`rows` (n,) of a store, with the output index of each in `labels` (n,), or None where there are no labels.

    `pixel_labels`: those of every pixel instead, read with the images; `labels` is None then.

    `source` says where the images come from, `left_out` what of it is not used and why, `notes` what is read in a way
    that the user should know of.
    """

    store: Store
    rows: Indices
    labels: Indices | None
    preprocess: InputForm
    source: str
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pixel_labels: PixelLabels | None = None

    @property
    def labelled(self) -> bool:
        """Whether the images or their pixels have labels."""
        return self.labels is not None or self.pixel_labels is not None

    def told(self) -> tuple[str, ...]:
        """What the user should know of the images, a sentence each."""
        return (*(f"Left out of {self.source}: {reason}." for reason in self.left_out), *self.notes)

    def __len__(self) -> int:
        return len(self.rows)

    def fingerprint(self) -> str:
        """A digest of what the images hold, of their order and of their labels; where they lie does not matter."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(b"" if self.labels is None else np.ascontiguousarray(self.labels).tobytes())
        truths = () if self.pixel_labels is None else self.pixel_labels.content(self.rows)
        for piece in chain(self.store.content(self.rows), truths):
            digest.update(len(piece).to_bytes(8, "little"))
            digest.update(piece)
        return digest.hexdigest()

    def subset(self, indices: npt.ArrayLike) -> Images:
        """The images at the given places (0 to len - 1), in that order."""
        places = np.asarray(indices, np.int64)
        return replace(self, rows=self.rows[places], labels=None if self.labels is None else self.labels[places])

    def batches(self, batch_size: int, *, order: npt.NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """Yield inputs (b, C, H, W), (b, H, W, C) or (b, *row), and labels int64 or None; the last may be short.

        Labels are (b,), or (b, H, W) where they are those of pixels.

        `order` is a sequence of places, for example a permutation. At most two batches are decoded ahead.

        Raises:
            CrispError: an image is corrupt, or `batch_size` is not positive.
        """
        if batch_size < 1:
            raise CrispError(f"A batch of {batch_size} images is not possible. Give a batch size of 1 or more.")
        chosen = self if order is None else self.subset(order)
        starts = iter(range(0, len(chosen), batch_size))
        pool = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")
        ahead: deque[tuple[slice, list[Future[Array]], list[Future[Indices]]]] = deque()
        try:
            while True:
                while len(ahead) <= BATCHES_AHEAD and (start := next(starts, None)) is not None:
                    part = slice(start, start + batch_size)
                    ahead.append((part, *chosen._submit(pool, part)))
                if not ahead:
                    return
                part, tasks, truths = ahead.popleft()
                pixels = np.concatenate([task.result() for task in tasks])
                if truths:
                    yield self.preprocess.normalise(pixels), np.concatenate([truth.result() for truth in truths])
                else:
                    yield self.preprocess.normalise(pixels), None if chosen.labels is None else chosen.labels[part]
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, part: slice) -> tuple[list[Future[Array]], list[Future[Indices]]]:
        rows = self.rows[part]
        pieces = [rows[start : start + ROWS_PER_TASK] for start in range(0, len(rows), ROWS_PER_TASK)]
        pixels = [pool.submit(self.store.read, piece, self.preprocess) for piece in pieces]
        truths = self.pixel_labels
        return pixels, [] if truths is None else [pool.submit(truths.read, piece, self.preprocess) for piece in pieces]
