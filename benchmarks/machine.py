"""Build the C++ programs of benchmarks/kernels."""

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
