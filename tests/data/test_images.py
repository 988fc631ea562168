"""`Images` and the split: order, batches, bounded look-ahead, and what a corrupt image does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.data.arrays import ArrayStore
from crisp_onnx.data.images import Images, Indices
from crisp_onnx.data.pixels import Pixels
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.split import hold_out
from crisp_onnx.errors import CrispError

RAW = Preprocess((0.0,), (1.0,), (2, 2), scale=1.0)


def numbered(count: int, classes: int = 3) -> Images:
    """Images whose pixels are their number, labelled with their number modulo `classes`."""
    array = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    rows = np.arange(count)
    return Images(ArrayStore(array, "numbers"), rows, rows % classes, RAW, "numbers")


@given(count=st.integers(0, 50), batch_size=st.integers(1, 60), seed=st.none() | st.integers(0, 9))
def test_batches_give_every_image_once_in_order(count: int, batch_size: int, seed: int | None) -> None:
    images = numbered(count)
    order = None if seed is None else np.random.default_rng(seed).permutation(count)
    batches = list(images.batches(batch_size, order=order))
    assert [len(x) for x, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    seen = [int(v) for x, _ in batches for v in x[:, 0, 0, 0]]
    assert seen == (list(range(count)) if order is None else order.tolist())
    assert [int(v) for _, y in batches if y is not None for v in y] == [n % 3 for n in seen]


def test_a_subset_keeps_pixels_and_labels_together() -> None:
    part = numbered(10).subset([7, 2]).subset([1, 0, 1])
    ((x, y),) = part.batches(8)
    assert x[:, 0, 0, 0].tolist() == [2, 7, 2]
    assert y is not None
    assert y.tolist() == [2, 1, 2]
    assert len(part) == 3


def test_images_without_labels_yield_none() -> None:
    images = numbered(3)
    unlabelled = Images(images.store, images.rows, None, RAW, "numbers")
    assert [y for _, y in unlabelled.batches(2)] == [None, None]
    assert len(hold_out(unlabelled, 0.4)[1]) == 1


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(CrispError, match="batch of 0"):
        next(numbered(3).batches(0))


@dataclass
class CountingStore:
    """Counts the rows that were read, and fails at one of them."""

    broken: int = -1
    rows: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, rows: Indices, preprocess: Preprocess) -> Pixels:
        with self.lock:
            self.rows.extend(rows.tolist())
        if self.broken in rows:
            raise CrispError(f"image {self.broken} is corrupt")
        return np.zeros((len(rows), *preprocess.size, preprocess.channels), np.uint8)


def test_only_a_few_batches_are_decoded_ahead() -> None:
    store = CountingStore()
    batches = Images(store, np.arange(10_000), None, RAW, "many").batches(20)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(store.rows) <= 80
    before = len(store.rows)
    assert threading.active_count() < 20
    assert len(store.rows) == before


def test_a_corrupt_image_ends_the_stream_with_its_message() -> None:
    with pytest.raises(CrispError, match="image 33 is corrupt"):
        list(Images(CountingStore(broken=33), np.arange(100), None, RAW, "many").batches(8))


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=5).filter(lambda c: max(c) > 1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_the_split_is_stratified_disjoint_and_repeatable(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(labels))
    images = Images(CountingStore(), rows, labels, RAW, "counts")
    rest, held = hold_out(images, fraction, seed=seed)
    assert sorted([*rest.rows, *held.rows]) == rows.tolist()
    again = hold_out(images, fraction, seed=seed)[1]
    np.testing.assert_array_equal(held.rows, again.rows)
    for label, count in enumerate(counts):
        kept = int((held.labels == label).sum())
        assert kept == (0 if count == 1 else min(max(1, round(fraction * count)), count - 1))


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.2, -0.1])
def test_an_impossible_share_is_refused(fraction: float) -> None:
    with pytest.raises(CrispError, match="cannot be held out"):
        hold_out(numbered(10), fraction)


def test_nothing_can_be_held_out_of_one_image_a_class() -> None:
    with pytest.raises(CrispError, match="only one image a class"):
        hold_out(numbered(3))
