"""The one rule that decides whether a layer runs sparse on this machine: measured once, remembered on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.model import write_files
from crisp_onnx.runtime.latency import NOISY_SPREAD
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer
from crisp_onnx.runtime.library import library_path, require_isa
from crisp_onnx.runtime.say_once import say_once

MARGIN, NOISY_MARGIN = 1.05, 1 + NOISY_SPREAD
"""A layer must be this much faster sparse than dense: what a calm and a noisy measurement can tell apart."""


@dataclass(frozen=True)
class Verdict:
    """Whether to run a layer sparse, the times behind it, and a sentence that says so.

    `sparse_ms`: of one call, with the layout conversions that this layer's neighbours cause.
    """

    sparse: bool
    times: LayerTimes
    sparse_ms: float
    reason: str

    @property
    def speedup(self) -> float:
        """The dense operator's time over `sparse_ms`."""
        return self.times.dense_ms / self.sparse_ms


def judge(times: LayerTimes, *, dense_neighbours: int = 0) -> Verdict:
    """Decide from measured times; a tie goes to the dense operator.

    `dense_neighbours`: sides (0 to 2) on which the layer meets a dense one. Each such side costs half of the seam, the
    conversion between the runtime's blocked layout and the plain one.
    """
    seam_ms = times.seam_ms * dense_neighbours / 2
    sparse_ms = times.hybrid_ms + seam_ms
    sparse = sparse_ms * (NOISY_MARGIN if times.noisy else MARGIN) <= times.dense_ms
    seam = f", {seam_ms:.3f} ms of it layout conversions" if seam_ms else ""
    comparison = f"{sparse_ms:.3f} ms sparse{seam}, {times.dense_ms:.3f} ms dense"
    return Verdict(sparse, times, sparse_ms, f"Measured here: {comparison}{'' if sparse else ', so it stays dense'}.")


def profitable(case: LayerCase, *, threads: int = 1, dense_neighbours: int = 0, cache: Path | None = None) -> Verdict:
    """Measure `case` on this machine, or recall it from `cache` (by default `cache_file()`), and judge it.

    What a noisy machine measured is not remembered.

    Raises:
        CrispError: the native kernels do not load on this machine, so nothing can be faster.
    """
    file = cache or cache_file()
    known = _read(file)
    key = f"{case.key}, {threads} threads"
    times = known.get(key)
    if times is None:
        times = measure_layer(case, threads=threads)
        if not times.noisy:
            _write(file, known | {key: times})
    return judge(times, dense_neighbours=dense_neighbours)


def cache_file() -> Path:
    """Where this machine's layer times are kept: one file per processor, runtime and kernel library."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "crisp_onnx" / f"layer_times_{_machine()}.json"


def _machine() -> str:
    library = library_path()
    kernels = hashlib.sha256(library.read_bytes()).hexdigest()
    parts = (_processor(), os.cpu_count(), require_isa(), ort.__version__, kernels)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line for line in lines if line.startswith("model name")), platform.machine())


def _read(file: Path) -> dict[str, LayerTimes]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): _times(entry) for key, entry in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        say_once(logging.WARNING, f"The layer times in {file} cannot be read ({error}); measuring again.")
        return {}


def _times(entry: Mapping[str, Any]) -> LayerTimes:
    times = LayerTimes(**entry)
    if not all(time >= 0 and math.isfinite(time) for time in (times.dense_ms, times.hybrid_ms, times.seam_ms)):
        raise ValueError(f"{times} holds what is no time")
    return times


def _write(file: Path, known: Mapping[str, LayerTimes]) -> None:
    """A folder that cannot be written costs the next run its measurements, nothing else."""
    entries = {key: asdict(times) for key, times in known.items()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_files({file: json.dumps(entries, indent=1, sort_keys=True).encode()})
    except (OSError, CrispError) as error:
        say_once(logging.WARNING, f"Layer times cannot be kept in {file.parent}: {error}")
