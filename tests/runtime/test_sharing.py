"""A node's work is shared out among threads only where that takes less time, and answers do not tell."""

from __future__ import annotations

import subprocess

import pytest
from kernel_programs import kernel_program


def test_a_node_shares_its_work_out_where_that_pays_and_looks_again_from_time_to_time() -> None:
    done = subprocess.run(kernel_program("sharing"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": yes\n") == 8


@pytest.mark.slow
def test_threads_that_decide_at_once_pass_the_thread_sanitizer() -> None:
    done = subprocess.run(kernel_program("sharing", sanitizer="thread"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
