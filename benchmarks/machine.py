"""What the C++ programs of benchmarks/kernels are built into, and how far the machine's cores stand apart."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def built(program: str) -> Path:
    """The path of a program of benchmarks/kernels, built now if need be."""
    folder = ROOT / "build" / "bench"
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DCRISP_ONNX_BENCH=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (configure, ["cmake", "--build", str(folder), "-j", "2"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "benchmarks" / "kernels" / program


def core_distance_ns(program: Path) -> float:
    """ns of a cache line's way between two cores and back: 50 where they share a cache, hundreds where they do not."""
    return float(subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout)
