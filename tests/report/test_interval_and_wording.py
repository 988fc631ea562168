"""Intervals agree with SciPy's; figures read the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from crisp_onnx.report.interval import wilson
from crisp_onnx.report.wording import budget_texts, count_text, milliseconds_text, shape_text, share_text, size_text


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    right, n = counts
    oracle = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


@pytest.mark.parametrize(("right", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_not_a_share_is_refused(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson(right, n)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (69_904, "69.9 kB"), (999_600, "1.00 MB"), (352_112_000, "352 MB")],
)
def test_sizes_have_three_digits_and_a_unit(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_counts_and_times_and_shapes() -> None:
    assert [count_text(n) for n in (640, 1850, 11_900_000, 4_100_000_000)] == ["640", "1.85 k", "11.9 M", "4.10 G"]
    assert [milliseconds_text(t) for t in (0.0512, 1.2149, 33.04, 123.4)] == ["0.05 ms", "1.21 ms", "33.0 ms", "123 ms"]
    assert [shape_text(s) for s in ((64, 32, 3, 3), (10, 64, 1, 1), (10, 64))] == ["64x32x3x3", "10x64", "10x64"]


def test_a_share_shows_its_interval_where_it_was_counted() -> None:
    assert share_text(0.155) == "15.5 %"
    assert share_text(104 / 108, 108) == "96.3 % (90.9-98.6)"
    assert share_text(1.0, 108) == "100 % (96.6-100)"
    assert share_text(None, 108) == "not measured"


@pytest.mark.parametrize(
    ("asked", "reached", "texts"),
    [
        (0.8, 0.79912345, ("0.8", "0.7991")),
        (0.9999999999, 0.98765, ("0.9999999999", "0.9877")),
        (0.9999, 0.99989999, ("0.9999", "0.99989999")),
        (1e-320, 0.5, ("1e-320", "0.5")),
        (5.0, 5.0, ("5", "5")),
    ],
)
def test_a_budget_is_told_in_few_digits_where_these_tell_it(asked, reached, texts) -> None:
    assert budget_texts(asked, reached) == texts
