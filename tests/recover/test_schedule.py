"""Where the rate peaks, how sparsity rises, when masks are chosen for the last time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.recover.ramp import Rise
from crisp_onnx.recover.schedule import Schedule


@given(st.integers(2, 500), st.integers(1, 50))
def test_the_rate_rises_to_its_peak_and_falls_to_nearly_zero(steps: int, warmup: int) -> None:
    schedule = Schedule(steps + warmup, warmup, 0.1)
    rates = [schedule.rate(step) for step in range(schedule.steps)]
    assert max(rates) == pytest.approx(0.1) == rates[warmup - 1]
    assert all(a >= b for a, b in pairwise(rates[warmup:]))
    assert rates[-1] < 0.1 * 2.5 / steps + 1e-9 or steps < 4


@given(st.integers(1, 1000))
def test_what_is_still_loose_falls_from_all_to_nothing_and_stays(steps: int) -> None:
    rise = Rise(steps)
    loose = [rise.loose(step) for step in range(steps + 1)]
    assert loose[0] == (1 if steps > 2 else 0)
    assert all(a >= b for a, b in pairwise(loose))
    assert loose[-1] == 0


@given(st.integers(1, 3000))
def test_the_last_choice_is_made_at_the_freeze_under_the_full_budget(steps: int) -> None:
    rise = Rise(steps)
    last = max(step for step in range(steps) if rise.chooses(step))
    assert last == rise.last_choice == int(rise.freeze * steps)
    assert rise.loose(last) == 0
