"""The one rule that decides whether a layer runs sparse on this machine: measured once, remembered on disk."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

from crisp_onnx.runtime.latency import NOISY_SPREAD
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer
from crisp_onnx.runtime.library import library_path, require_isa
from crisp_onnx.say_once import say_once
from crisp_onnx.store import Store, cache_folder

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
    return Verdict(sparse, times, sparse_ms, f"Timed alone: {comparison}{'' if sparse else ', so it stays dense'}.")


def most_blocks(kept: int, verdict: Verdict) -> int:
    """How many blocks of every block row the layer may keep and still be faster sparse, measured with `kept` of them.

    Its time grows with them in proportion at most: part of it does not depend on them at all.
    """
    seam_ms = verdict.sparse_ms - verdict.times.hybrid_ms
    margin = NOISY_MARGIN if verdict.times.noisy else MARGIN
    return max(kept, int(kept * (verdict.times.dense_ms / margin - seam_ms) / verdict.times.hybrid_ms))


def profitable(case: LayerCase, *, threads: int = 1, dense_neighbours: int = 0, known: Store | None = None) -> Verdict:
    """Measure `case` on this machine, or recall it from `known` (by default `known_times()`), and judge it.

    What a noisy machine measured is not remembered.

    Raises:
        CrispError: the native kernels do not load on this machine, so nothing can be faster.
    """
    times = recalled(f"{case.key}, {threads} threads", partial(measure_layer, case, threads=threads), known)
    return judge(times, dense_neighbours=dense_neighbours)


def recalled(key: str, measure: Callable[[], LayerTimes], known: Store | None = None) -> LayerTimes:
    """The times kept under `key`, or measured now and, unless they are noisy, kept."""
    store = known or known_times()
    times = _times(store.get(key))
    if times is None:
        times = measure()
        if not times.noisy:
            store.put(key, asdict(times))
    return times


def known_times() -> Store:
    """Where this machine's layer times are kept: a folder per processor, runtime and kernel library."""
    cache = cache_folder()
    if cache is None:
        say_once(
            logging.WARNING, "This user has no home folder, so layer times are not kept; XDG_CACHE_HOME names one."
        )
    return Store(None if cache is None else cache / f"layer_times_{_machine()}")


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


def _times(entry: Any) -> LayerTimes | None:
    """Times as they were kept; None for none, and for what is no times."""
    if entry is None:
        return None
    with suppress(TypeError, OverflowError):
        times = LayerTimes(**entry)
        if all(ms >= 0 and math.isfinite(ms) for ms in (times.dense_ms, times.hybrid_ms, times.seam_ms)):
            return times
    say_once(logging.WARNING, "Some of the layer times that were kept are damaged; these layers are measured again.")
    return None
