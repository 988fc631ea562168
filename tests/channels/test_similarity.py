"""Linear CKA: what it does not mind, and what it is by its definition."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.channels.similarity import linear_cka

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 7))
Y = np.concatenate([X[:, :3], RNG.standard_normal((20, 8))], 1)


def test_it_is_one_for_itself_rotated_scaled_and_moved() -> None:
    turned = np.linalg.qr(RNG.standard_normal((7, 7)))[0]
    assert linear_cka(X, X) == pytest.approx(1, abs=1e-9)
    assert linear_cka(X, 3 * X @ turned + 5) == pytest.approx(1, abs=1e-6)


def test_it_is_the_share_of_the_definition() -> None:
    x, y = (values - values.mean(0) for values in (X, Y))
    expected = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert linear_cka(X, Y) == pytest.approx(expected)
    assert 0 < expected < 0.9


def test_features_that_never_change_are_like_nothing() -> None:
    assert linear_cka(np.ones((5, 3)), X[:5]) == 0
