"""A child has limits of memory and processor time, and goes when the parent is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from crisp_onnx.confined import Limits, excess

ROOM = Limits(memory_bytes=4 << 30, processor_s=20)


def test_a_call_that_ends_within_its_limits_says_nothing():
    assert excess("time:sleep", (0.01,), ROOM) == ""


def test_an_ordinary_exception_is_left_to_whoever_does_the_same_without_a_child():
    assert excess("json:loads", ("{",), ROOM) == ""


def test_a_call_that_takes_too_much_memory_is_named():
    said = excess("operator:mul", ("ab", 1 << 31), Limits(memory_bytes=1 << 30, processor_s=20))
    assert said == "takes more than 1.1 GB of memory"


def test_a_call_that_computes_too_long_is_named():
    began = time.monotonic()
    said = excess("math:factorial", (10**8,), Limits(memory_bytes=4 << 30, processor_s=1))
    assert said == "takes more than 1 s of processor time"
    assert time.monotonic() - began < 60


def test_a_call_that_only_waits_has_an_end_too():
    assert "1 s of processor time" in excess("time:sleep", (1000,), Limits(memory_bytes=4 << 30, processor_s=1))


def test_an_interruption_ends_the_child_at_once():
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        excess("time:sleep", (1000,), ROOM)
    assert time.monotonic() - began < 20
    with pytest.raises(ChildProcessError):  # none is left
        os.waitpid(-1, os.WNOHANG)
