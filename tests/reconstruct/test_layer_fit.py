"""One layer's fit against numpy's least squares with the ridge as extra rows, and the choice of the ridge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.reconstruct import evidence as module
from crisp_onnx.reconstruct.evidence import Rows, Sums, evidence
from crisp_onnx.reconstruct.layer_fit import best_fit, output_error

CPU = torch.device("cpu")


def data(rows: int, columns: int, outputs: int, seed: int, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) @ rng.standard_normal((columns, columns)) + mean
    return x.astype(np.float32), (x @ rng.standard_normal((columns, outputs)) + rng.standard_normal(outputs)).astype(
        "f4"
    )


def oracle(
    x: np.ndarray, y: np.ndarray, support: np.ndarray, old: np.ndarray, ridge: float, *, centred: bool
) -> np.ndarray:
    """numpy.linalg.lstsq on the rows, and on a row of sqrt(m ridge) for each weight that pulls it to its old value."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    if centred:
        x, y = x - x.mean(0), y - y.mean(0)
    pull = np.sqrt(len(x) * ridge)
    found = np.zeros_like(old)
    for row in range(len(old)):
        q = np.flatnonzero(support[row])
        a = np.concatenate([x[:, q], pull * np.eye(len(q))])
        found[row, q] = np.linalg.lstsq(a, np.concatenate([y[:, row], pull * old[row, q]]), rcond=None)[0]
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([Sums, Rows]), st.integers(3, 12), st.integers(1, 4), st.booleans(), st.integers(0, 999),
    st.sampled_from([0.0, 100.0]),
)  # fmt: skip
def test_the_solution_is_that_of_a_dense_least_squares(kind, columns, groups, centred, seed, mean):
    rng = np.random.default_rng(seed)
    x, y = data(60, columns, 2 * groups, seed, mean if centred else 0.0)
    known = kind(columns, 2 * groups, centred=centred, device=CPU)
    for part in np.array_split(np.arange(60), 3):
        known.add(torch.from_numpy(x[part]), torch.from_numpy(y[part]))
    support = np.repeat(rng.random((groups, columns)) < 0.6, 2, axis=0)
    old = np.where(support, rng.standard_normal(support.shape), 0.0)
    for top in range(0, 2 * groups, 2):
        q = np.flatnonzero(support[top])
        if not len(q):
            continue
        rows = slice(top, top + 2)
        ridges = (0.01 * known.scale, known.scale)
        found = known.solutions(torch.from_numpy(q), rows, torch.from_numpy(old[rows, q]), ridges)
        for ridge, weight in zip(ridges, found, strict=True):
            expected = oracle(x, y, support, old, ridge, centred=centred)[rows, q]
            np.testing.assert_allclose(weight.numpy(), expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("kind", [Sums, Rows])
@pytest.mark.parametrize("centred", [True, False])
def test_means_and_spreads_are_those_of_the_rows(kind, centred):
    x, y = data(80, 6, 3, 1, mean=7.0)
    known = kind(6, 3, centred=centred, device=CPU)
    for part in np.array_split(np.arange(80), 4):
        known.add(torch.from_numpy(x[part]), torch.from_numpy(y[part]))
    mean_x, mean_y = (values.mean(0) * centred for values in (x, y))
    weight = np.random.default_rng(2).standard_normal((3, 6))
    np.testing.assert_allclose(known.mean_x, mean_x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(known.mean_y, mean_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(known.spread_y, ((y - mean_y) ** 2).mean(0), rtol=1e-4)
    np.testing.assert_allclose(
        known.spread(torch.from_numpy(weight)), (((x - mean_x) @ weight.T) ** 2).mean(0), rtol=1e-4
    )
    assert known.scale == pytest.approx(float(((x - mean_x) ** 2).mean()), rel=1e-4)


def known_of(x, y, *, centred=True):
    known = evidence(x.shape[1], y.shape[1], centred=centred, device=CPU)
    known.add(torch.from_numpy(x), torch.from_numpy(y))
    return known


def test_a_wide_layer_keeps_a_bounded_number_of_rows(monkeypatch):
    monkeypatch.setattr(module, "WIDEST", 8)
    monkeypatch.setattr(module, "ROWS_OF_WIDE", 20)
    x, y = data(90, 9, 2, 3)
    known = known_of(x, y)
    assert isinstance(known, Rows)
    np.testing.assert_allclose(known.mean_x, x[:20].mean(0), rtol=1e-4, atol=1e-4)


def test_a_fit_lowers_the_error_is_exact_on_the_support_and_keeps_the_zeros():
    x, y = data(600, 16, 8, 4, mean=2.0)
    support = torch.from_numpy(np.repeat(np.random.default_rng(5).random((2, 16)) < 0.5, 4, axis=0))
    old = torch.where(support, torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), 0.0)
    judged = tuple(torch.from_numpy(part[400:]) for part in (x, y))
    fit = best_fit(known_of(x[:400], y[:400]), judged, old, support, 4)
    assert fit.after < fit.before
    assert not fit.weight[~support].any()
    assert fit.ridge in (0.001, 0.01, 0.1)


def test_the_full_support_brings_the_dense_layer_back():
    x, y = data(400, 10, 4, 6)
    judged = tuple(map(torch.from_numpy, (x, y)))
    fit = best_fit(
        known_of(x, y), judged, torch.zeros(4, 10, dtype=torch.float64), torch.ones(4, 10, dtype=torch.bool), 4, (1e-9,)
    )
    assert fit.after < 1e-3 < fit.before


def test_weights_that_no_ridge_improves_on_unseen_rows_stay():
    x, y = data(300, 8, 4, 7)
    other = tuple(torch.from_numpy(part) for part in data(100, 8, 4, 8))  # of another layer altogether
    best_there = torch.linalg.lstsq(other[0] - other[0].mean(0), other[1] - other[1].mean(0)).solution.T.double()
    known = known_of(*(part.numpy() for part in other))
    misled = known_of(x, y)
    fit = best_fit(misled, other, best_there, torch.ones(4, 8, dtype=torch.bool), 4)
    assert output_error(known, best_there, other) < 1e-3
    if fit.ridge is None:
        assert torch.equal(fit.weight, best_there)
    assert fit.after <= fit.before


def test_a_layer_without_any_input_or_change_stays_as_it_is():
    x, y = np.zeros((50, 6), np.float32), np.ones((50, 2), np.float32)
    old = torch.ones(2, 6, dtype=torch.float64)
    fit = best_fit(
        known_of(x, y), (torch.from_numpy(x), torch.from_numpy(y)), old, torch.ones(2, 6, dtype=torch.bool), 2
    )
    assert fit.ridge is None and fit.after == fit.before == 0
    assert torch.equal(fit.weight, old)


def test_errors_are_shares_whatever_the_size_of_the_outputs():
    x, y = data(300, 6, 4, 8)
    old = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    errors = []
    for size in (1.0, 1e25):
        great = y * np.float32(size)
        judged = (torch.from_numpy(x), torch.from_numpy(great))
        errors.append(output_error(known_of(x, great), old * size, judged))
    assert errors[0] > 0.1
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
