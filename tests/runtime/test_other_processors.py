"""The kernels compiled for ARM, where the tools are there, against plain loops.

For ARM: `aarch64-linux-gnu-g++` or `python -m ziglang c++`, and `qemu-aarch64` or `qemu-aarch64-static` to run it.
"""

from __future__ import annotations

import subprocess

import pytest
from kernel_programs import kernel_program


@pytest.mark.slow
@pytest.mark.parametrize("program", ["agree", "every_row"])
def test_the_neon_kernels_agree_with_plain_loops(program: str) -> None:
    done = subprocess.run(kernel_program(program, arm=True), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    named = {line.split()[0].rpartition("__")[2] for line in done.stdout.splitlines()}
    assert named == {"neon", "portable"}
