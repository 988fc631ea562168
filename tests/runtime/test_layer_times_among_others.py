"""Layers that are timed while another program has the processor are known to be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from crisp_onnx.format import Pattern
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.layer_times import measure_layer
from crisp_onnx.runtime.library import load_library

pytestmark = pytest.mark.skipif(
    load_library().handle is None or sys.platform != "linux", reason="processes are held on one core on Linux alone"
)


def test_a_layer_that_shares_its_core_with_another_program_is_noisy() -> None:
    case = LayerCase((32, 32, 3, 3), (1, 32, 14, 14), Pattern(2, 4, 16, 8), 6, pads=(1, 1, 1, 1))
    before = os.sched_getaffinity(0)
    others: list[subprocess.Popen[bytes]] = []
    try:
        os.sched_setaffinity(0, {min(before)})
        # A child stays on the core of its parent.
        others += [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        assert measure_layer(case, budget_s=0.1).noisy
    finally:
        os.sched_setaffinity(0, before)
        for other in others:
            other.kill()
            other.wait()
