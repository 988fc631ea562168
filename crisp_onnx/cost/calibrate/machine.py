"""What a calibration says about the machine it ran on, read from the kernel's own files where it has them."""

from __future__ import annotations

import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crisp_onnx.lowering import Target

CPUINFO = Path("/proc/cpuinfo")
CPU_FILES = Path("/sys/devices/system/cpu/cpu0")
FALLBACK_CACHE_BYTES = 8 << 20
STREAM_FLOATS = 64 << 20
STREAM_REPEATS = 5


@dataclass(frozen=True)
class Machine:
    """`granule`: channels that ONNX Runtime groups, floats of one vector. `cache_bytes`: the last level's.

    `near_bytes`: of the second level, a core's own; 0 where it is not known.
    """

    cpu: str
    governor: str
    granule: int
    cache_bytes: int
    near_bytes: int = 0


def this_machine() -> Machine:
    """Name, frequency governor, vector width and last-level cache; careful guesses where the system does not tell."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    wide = bool(flags and "avx512f" in flags.group(1).split())
    arm = platform.machine().lower() in ("aarch64", "arm64")
    governor = CPU_FILES / "cpufreq" / "scaling_governor"
    return Machine(
        cpu=model.group(1).strip() if model else platform.processor() or platform.machine(),
        governor=governor.read_text().strip() if governor.is_file() else "unknown",
        granule=16 if wide else 4 if arm else 8,
        cache_bytes=max(_caches(), default=FALLBACK_CACHE_BYTES),
        near_bytes=sorted(_caches())[-2] if len(_caches()) > 2 else 0,
    )


def measured_elsewhere(target: Target) -> str:
    """A sentence where `target` was measured on another processor than this one; else nothing."""
    calibration = target.descriptor.calibration
    here = this_machine().cpu
    if calibration is None or calibration.cpu == here:
        return ""
    return (
        f"{target.name} was measured on {calibration.cpu}; this machine has {here}, where its times need not hold. "
        "Measure it with `crisp-onnx targets calibrate` if the model is to run here."
    )


def _caches() -> list[int]:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = []
    for file in CPU_FILES.glob("cache/index*/size"):
        match = re.fullmatch(r"(\d+)([KMG])", file.read_text().strip())
        if match:
            found.append(int(match.group(1)) * units[match.group(2)])
    return found


def read_bandwidth_bytes_s() -> float:
    """Bytes a second of one thread that adds up 256 MB, far more than any cache; the best of five passes."""
    data = np.ones(STREAM_FLOATS, np.float32)
    best = float("inf")
    for _ in range(STREAM_REPEATS):
        start = time.perf_counter()
        np.max(data)
        best = min(best, time.perf_counter() - start)
    return data.nbytes / best
