"""Sums of rows against float64 products of all of them at once."""

from __future__ import annotations

import pytest
import torch

from crisp_onnx.reconstruct.evidence import COLUMNS_AT_ONCE, Sums


@pytest.mark.parametrize("columns", [3, COLUMNS_AT_ONCE, COLUMNS_AT_ONCE + 1, 2 * COLUMNS_AT_ONCE + 40])
@pytest.mark.parametrize("centred", [True, False])
def test_moments_are_those_of_all_rows_whatever_blocks_they_are_summed_in(columns: int, centred: bool) -> None:
    random = torch.Generator().manual_seed(columns)
    x, y = torch.randn(300, columns, generator=random) + 2, torch.randn(300, 5, generator=random) - 1
    sums = Sums(columns, 5, centred=centred, device=torch.device("cpu"))
    for start in range(0, 300, 100):
        sums.add(x[start : start + 100], y[start : start + 100])
    gram, cross = sums.moments()
    exact, target = x.double(), y.double()
    if centred:
        exact, target = exact - exact.mean(0), target - target.mean(0)
    torch.testing.assert_close(gram, exact.T @ exact / 300, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cross, exact.T @ target / 300, rtol=1e-5, atol=1e-5)
    assert torch.equal(gram, gram.T)
