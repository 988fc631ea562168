"""The kernels compiled for processors that are not here, where the tools are there, against plain loops.

For ARM: `aarch64-linux-gnu-g++` or `python -m ziglang c++`, and `qemu-aarch64` or `qemu-aarch64-static` to run it.
"""

from __future__ import annotations

import subprocess

import pytest
from kernel_programs import kernel_program

from crisp_onnx.runtime.library import available_isas


@pytest.mark.slow
@pytest.mark.parametrize("program", ["every_avx_vnni_row", "every_avx_vnni_byte_function"])
def test_the_avx_vnni_kernels_agree_with_plain_loops_where_their_dot_products_run_encoded_for_avx512(
    program: str,
) -> None:
    if "avx512_vnni" not in available_isas("int8"):
        pytest.skip("needs a processor with AVX-512 VNNI")
    done = subprocess.run(kernel_program(program), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0].rpartition("__")[2] for line in done.stdout.splitlines()} == {"avx_vnni"}


@pytest.mark.slow
@pytest.mark.parametrize("program", ["every_int8_row", "every_byte_function"])
def test_the_int8_kernels_for_arm_agree_with_plain_loops(program: str) -> None:
    done = subprocess.run(kernel_program(program, arm=True), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0].rpartition("__")[2] for line in done.stdout.splitlines()} == {"neon_dot", "portable"}


@pytest.mark.slow
@pytest.mark.parametrize("program", ["agree", "every_row"])
def test_the_neon_kernels_agree_with_plain_loops(program: str) -> None:
    done = subprocess.run(kernel_program(program, arm=True), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    named = {line.split()[0].rpartition("__")[2] for line in done.stdout.splitlines()}
    assert named == {"neon", "portable"}
