"""The kernels compiled for this machine and, where the tools are there, for ARM, against plain loops.

For ARM: `aarch64-linux-gnu-g++` or `python -m ziglang c++`, and `qemu-aarch64` or `qemu-aarch64-static` to run it.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KERNELS = ROOT / "crisp_onnx" / "runtime" / "kernels"
SOURCES = ("weight", "geometry", "strips", "plan", "claims", "convolve", "isa", "kernels_portable", "kernels_neon")


def arm_compiler() -> list[str]:
    gnu = shutil.which("aarch64-linux-gnu-g++")
    if gnu:
        return [gnu]
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("no compiler for ARM: neither aarch64-linux-gnu-g++ nor the package ziglang")
    return [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-musl"]


def emulator() -> str:
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        pytest.skip("no qemu-aarch64 to run programs for ARM")
    return found


@pytest.mark.slow
def test_the_neon_kernels_agree_with_plain_loops(tmp_path: Path) -> None:
    run, compiler = emulator(), arm_compiler()
    sources = [KERNELS / f"{name}.cc" for name in SOURCES]
    sources += [HERE / "other_processors" / "agree.cc", ROOT / "benchmarks" / "kernels" / "layers.cc"]
    folders = [f"-I{KERNELS}", f"-I{ROOT / 'benchmarks' / 'kernels'}"]
    program = tmp_path / "agree"
    subprocess.run(
        [*compiler, "-std=c++17", "-O2", "-static", "-DCRISP_ARM64", *folders, *map(str, sources), "-o", program],
        check=True,
    )
    done = subprocess.run([run, program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["neon", "portable"]
