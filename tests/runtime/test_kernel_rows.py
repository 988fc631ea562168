"""Every row of the table of kernels, by name, against plain loops."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from kernel_programs import kernel_program

from crisp_onnx.runtime.library import Element, available_isas, kernel_names


@pytest.mark.parametrize(("element", "program"), [("float32", "every_row"), ("int8", "every_int8_row")])
def test_every_row_of_the_table_agrees_with_plain_loops_and_is_taken_for_some_strip(
    element: Element, program: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(kernel_program(program), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    tried = {line.split()[0] for line in done.stdout.splitlines()}
    names = set()
    for isa in available_isas(element):
        monkeypatch.setenv("CRISP_ONNX_ISA", isa)
        names |= set(kernel_names(element))
    assert names == tried
    assert {name.rpartition("__")[2] for name in tried} == set(available_isas(element))


def test_windows_tables_and_tiles_of_bytes_agree_with_plain_loops() -> None:
    done = subprocess.run(kernel_program("every_byte_function"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    tried = {line.split()[0] for line in done.stdout.splitlines()}
    functions = ("window", "square_window", "small_window", "table", "turn")
    assert tried == {f"i8_{what}__{isa}" for what in functions for isa in available_isas("int8")}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("program", ["every_int8_row", "every_byte_function"])
def test_the_int8_kernels_pass_the_sanitizers(program: str, sanitizer: str) -> None:
    command = kernel_program(program, sanitizer=sanitizer)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    assert not done.stderr, done.stderr[-6000:]
