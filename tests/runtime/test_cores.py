"""How far cores stand apart: told where the system tells it, and the caller stays where it was."""

from __future__ import annotations

import os
import sys

import pytest

from crisp_onnx.runtime.library import core_distance_ns, load_library

pytestmark = pytest.mark.skipif(
    load_library().handle is None or sys.platform != "linux", reason="the library tells it on Linux alone"
)


CORES = os.sched_getaffinity(0) if sys.platform == "linux" else set()


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
def test_a_cache_line_takes_its_time_between_two_cores() -> None:
    before = os.sched_getaffinity(0)
    found = core_distance_ns(2)
    assert found is not None
    assert 5 < found < 1e8
    assert os.sched_getaffinity(0) == before


def test_one_thread_and_more_threads_than_cores_have_no_distance() -> None:
    assert [core_distance_ns(threads) for threads in (-1, 0, 1, len(CORES) + 1, 2**31 - 1)] == [None] * 5


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
def test_a_process_that_is_held_on_one_core_has_no_distance() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert core_distance_ns(2) is None
    finally:
        os.sched_setaffinity(0, before)
