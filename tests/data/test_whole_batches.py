"""Whole batches for graphs that take no others."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.data import whole_batches


@pytest.mark.parametrize(
    ("count", "size", "found"),
    [(5, None, [0, 1, 2, 3, 4]), (5, 2, [0, 1, 2, 3]), (4, 2, [0, 1, 2, 3]), (1, 3, [0, 0, 0]), (2, 3, [0, 1, 0])],
)
def test_the_last_few_are_left_out_or_the_first_come_again(count: int, size: int | None, found: list[int]) -> None:
    assert whole_batches(np.arange(count), size).tolist() == found
