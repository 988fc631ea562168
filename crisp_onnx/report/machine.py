"""Name, features and memory of this machine, read from the kernel's own files where it has them."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")


def processor(cpuinfo: Path = CPUINFO) -> tuple[str, frozenset[str] | None]:
    """The processor's name and its instruction set features; `None` where the system does not tell them."""
    fields = _fields(cpuinfo)
    name = fields.get("model name") or platform.processor() or platform.machine()
    features = fields.get("flags") or fields.get("Features")
    return name, frozenset(features.split()) if features else None


def memory_bytes(meminfo: Path = MEMINFO) -> tuple[int | None, int | None]:
    """Bytes of memory: all, and what a new program can have; `None` where the system does not tell."""
    fields = _fields(meminfo)
    total, free = (_kibibytes(fields.get(name)) for name in ("MemTotal", "MemAvailable"))
    return total, free


def peak_memory_bytes() -> int:
    """The largest resident size that this process has had so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _fields(path: Path) -> dict[str, str]:
    """`name: value` lines; the first of each name, which in cpuinfo is the first core's."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _kibibytes(text: str | None) -> int | None:
    return int(text.split()[0]) * 1024 if text else None
