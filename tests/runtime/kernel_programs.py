"""Build the C++ programs that test the kernels, for this machine or for ARM, plain or with a sanitizer.

They stay under build/, so that a second run of the tests compiles only what has changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def kernel_program(name: str, *, arm: bool = False, sanitizer: str = "") -> list[str]:
    """The command that runs the program, built anew where its sources have changed. `sanitizer`: address or thread.

    Skips the test where a compiler, CMake or the emulator is missing.
    """
    if shutil.which("cmake") is None or (not arm and shutil.which("c++") is None):
        pytest.skip("needs cmake and a C++ compiler")
    folder = (
        ROOT / "build" / "-".join(["kernel_programs", *(["arm"] if arm else []), *([sanitizer] if sanitizer else [])])
    )
    run = [_emulator()] if arm else []
    options = ["-DCRISP_ONNX_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", f"-DCRISP_ONNX_SANITIZE={sanitizer or 'OFF'}"]
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), *options, *(_arm_options(folder) if arm else [])]
    for command in (configure, ["cmake", "--build", str(folder), "-j", "2", "--target", name]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [*run, str(folder / "tests" / "runtime" / "kernels" / name)]


def sanitized_library(folder: Path) -> tuple[Path, dict[str, str]]:
    """The kernel library under AddressSanitizer and UndefinedBehaviorSanitizer, and the environment for its host."""
    preload = [_compiler_file(name) for name in ("libasan.so", "libstdc++.so.6")]
    if not all(preload) or not shutil.which("cmake"):
        pytest.skip("needs cmake and a compiler with AddressSanitizer")
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DCRISP_ONNX_SANITIZE=address"]
    for command in (configure, ["cmake", "--build", str(folder), "-j", "2"]):
        subprocess.run(command, check=True, capture_output=True)
    environment = {**os.environ, "LD_PRELOAD": " ".join(preload), "ASAN_OPTIONS": "detect_leaks=0"}
    return next(folder.rglob("libcrisp_onnx_kernels.so")), environment


def _arm_options(folder: Path) -> list[str]:
    """For a static program: nothing of the other system is needed to run it."""
    system = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_EXE_LINKER_FLAGS=-static"]
    return [*system, f"-DCMAKE_CXX_COMPILER={_arm_compiler(folder)}"]


def _arm_compiler(folder: Path) -> str:
    gnu = shutil.which("aarch64-linux-gnu-g++")
    if gnu:
        return gnu
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("no compiler for ARM: neither aarch64-linux-gnu-g++ nor the package ziglang")
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "zig-c++"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang c++ -target aarch64-linux-musl "$@"\n')
    script.chmod(0o755)
    return str(script)


def _emulator() -> str:
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        pytest.skip("no qemu-aarch64 to run programs for ARM")
    return found


def _compiler_file(name: str) -> str:
    compiler = shutil.which("c++")
    if compiler is None:
        return ""
    command = [compiler, f"-print-file-name={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found if Path(found).is_absolute() else ""
