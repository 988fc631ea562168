"""Grids: zero is exactly zero, the range is covered, and the least error is the least."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.quantize.calibration import BINS, NOTHING, Seen, widened
from crisp_onnx.quantize.grids import LEAST_STEP, METHODS, by_error, by_percentile, by_range, grid_of


def seen_of(values: np.ndarray) -> Seen:
    low, high = float(values.min()), float(values.max())
    return Seen(low, high, np.histogram(values, BINS, (low, high))[0])


def rounded(values: np.ndarray, grid) -> np.ndarray:  # type: ignore[no-untyped-def]
    steps = np.clip(np.rint(values / grid.scale) + grid.zero, 0, 255)
    return (steps - grid.zero) * grid.scale


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_grid_holds_zero_and_reaches_both_ends_within_a_step(one: float, other: float) -> None:
    low, high = sorted((one, other))
    grid = grid_of(low, high)
    assert 0 <= grid.zero <= 255 and grid.scale >= LEAST_STEP
    ends = np.array([min(low, 0), max(high, 0)])
    assert np.abs(rounded(ends, grid) - ends).max() <= 1.001 * grid.scale
    assert rounded(np.zeros(1), grid)[0] == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_tensor_of_one_value_has_a_grid(method: str, value: float) -> None:
    values = np.full(100, value, np.float32)
    grid = METHODS[method](widened(NOTHING, values))
    assert abs(rounded(values, grid)[0] - value) <= max(abs(value) / 100, 1e-6)


def test_a_rare_outlier_widens_the_range_but_not_the_other_grids() -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.standard_normal(100_000), 400.0)
    seen = seen_of(values)
    usual = values[:-1]
    errors = {name: float(((rounded(usual, METHODS[name](seen)) - usual) ** 2).mean()) for name in METHODS}
    assert by_range(seen).scale > 1.5
    assert by_percentile(seen).scale < 0.1
    assert errors["percentile"] < errors["range"] / 100


def test_the_least_error_is_at_most_that_of_the_range_on_the_values_themselves() -> None:
    rng = np.random.default_rng(1)
    drawn = (rng.standard_normal(20_000) ** 3, np.maximum(rng.standard_normal(20_000), 0), rng.laplace(size=9000))
    for values in drawn:
        seen = seen_of(values)
        errors = [float(((rounded(values, way(seen)) - values) ** 2).mean()) for way in (by_error, by_range)]
        assert errors[0] <= 1.02 * errors[1]
