"""The one rule that decides whether a layer runs sparse on this machine: measured once, remembered on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime as ort

from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer
from crisp_onnx.runtime.library import library_path, require_isa

MARGIN = 1.05
"""A layer must be this much faster sparse than dense: what a measurement of one layer can tell apart."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Whether to run a layer sparse, the times behind it, and a sentence that says so.

    `sparse_ms`: of one call, with the layout conversions that this layer's neighbours cause.
    """

    sparse: bool
    times: LayerTimes
    sparse_ms: float
    reason: str


def judge(times: LayerTimes, *, dense_neighbours: int = 0) -> Verdict:
    """Decide from measured times. `dense_neighbours`: sides (0 to 2) on which the layer meets a dense one.

    Each such side costs half of the seam, the conversion between the runtime's blocked layout and the plain one.
    """
    seam_ms = times.seam_ms * dense_neighbours / 2
    sparse_ms = times.hybrid_ms + seam_ms
    sparse = sparse_ms * MARGIN <= times.dense_ms
    seam = f", {seam_ms:.3f} ms of it layout conversions" if seam_ms else ""
    comparison = f"{sparse_ms:.3f} ms sparse{seam}, {times.dense_ms:.3f} ms dense"
    return Verdict(sparse, times, sparse_ms, f"Measured here: {comparison}{'' if sparse else ', so it stays dense'}.")


def profitable(case: LayerCase, *, threads: int = 1, dense_neighbours: int = 0, cache: Path | None = None) -> Verdict:
    """Measure `case` on this machine, or recall it from `cache` (by default `cache_file()`), and judge it.

    Raises:
        CrispError: the native kernels do not load on this machine, so nothing can be faster.
    """
    file = cache or cache_file()
    known = _read(file)
    key = f"{case.key}, {threads} threads"
    if key not in known:
        known[key] = asdict(measure_layer(case, threads=threads))
        _write(file, known)
    return judge(LayerTimes(**known[key]), dense_neighbours=dense_neighbours)


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


def _read(file: Path) -> dict[str, dict[str, float]]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("The layer times in %s cannot be read (%s); measuring again.", file, error)
        return {}
    return known if isinstance(known, dict) else {}


def _write(file: Path, known: dict[str, dict[str, float]]) -> None:
    """Whole or not at all; a folder that cannot be written costs the next run its measurements, nothing else."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as out:
            json.dump(known, out, indent=1, sort_keys=True)
        Path(out.name).replace(file)
    except OSError as error:
        log.warning("Layer times cannot be kept in %s: %s.", file.parent, error)
