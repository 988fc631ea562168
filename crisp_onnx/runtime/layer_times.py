"""Time one layer sparse and dense on this machine: the operators alone, and the layout conversions around them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.runtime.latency import NOISY_SPREAD, timing_options
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.library import library_path

REORDERS = ("ReorderInput", "ReorderOutput")
FEWEST_ROUNDS = 5
TRIES = 3
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one call.

    `dense_ms`, `hybrid_ms`: the operator with its activation. `seam_ms`: converting the input from the runtime's
    blocked layout and the output back, which a hybrid layer between two dense ones pays. `noisy`: the middle half of
    the ratios, round by round, spans more than a quarter of their median.
    """

    dense_ms: float
    hybrid_ms: float
    seam_ms: float
    noisy: bool = False


def measure_layer(case: LayerCase, *, threads: int = 1, rounds: int = 25, budget_s: float = 0.4) -> LayerTimes:
    """Run the layer dense and hybrid in turn and read their times off the runtime's own profile.

    Ends after `rounds` of both, or when `budget_s` seconds are spent, but not under five rounds. Begins again where the
    machine was too noisy, twice at most.

    Raises:
        CrispError: the native kernels do not load on this machine.
    """
    for _ in range(TRIES):
        times = _measure(case, threads, rounds, budget_s)
        if not times.noisy:
            break
    return times


def _measure(case: LayerCase, threads: int, rounds: int, budget_s: float) -> LayerTimes:
    dense, hybrid = dense_and_hybrid(case)
    x = np.random.default_rng(0).standard_normal(case.input_shape, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="crisp-layer-") as folder:
        sessions = [_profiled(dense, threads, folder, None), _profiled(hybrid, threads, folder, library_path())]
        end = time.perf_counter() + budget_s
        for count in range(rounds):
            if count >= FEWEST_ROUNDS and time.perf_counter() > end:
                break
            for session in sessions:
                session.run(None, {"x": x})
        dense_events, hybrid_events = (_node_ms(Path(session.end_profiling())) for session in sessions)
    # The profile counts whole microseconds: its 0 stands for up to one.
    computed = np.maximum(_total(dense_events, [op for op in dense_events if op not in REORDERS]), 5e-4)
    sparse = np.maximum(_total(hybrid_events, hybrid_events), 5e-4)
    low, middle, high = np.percentile(computed / sparse, (25, 50, 75))
    return LayerTimes(
        _middle_mean(computed),
        _middle_mean(sparse),
        _middle_mean(_total(dense_events, REORDERS)),
        noisy=bool(high - low > NOISY_SPREAD * middle),
    )


def _profiled(model: bytes, threads: int, folder: str, library: Path | None) -> ort.InferenceSession:
    options = timing_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder) / ("hybrid" if library else "dense"))
    if library:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _node_ms(profile: Path) -> dict[str, Times]:
    """Operator type -> milliseconds of its node in every run, from a profile of ONNX Runtime."""
    found: dict[str, list[float]] = {}
    for _, op, ms in node_runs(profile):
        found.setdefault(op, []).append(ms)
    return {op: np.array(times) for op, times in found.items()}


def node_runs(profile: Path) -> Iterator[tuple[str, str, float]]:
    """Name, operator type and milliseconds of every node's every run, from a profile of ONNX Runtime."""
    events: list[dict[str, Any]] = json.loads(profile.read_text(encoding="utf-8"))
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            yield event["name"], event["args"]["op_name"], event["dur"] / 1e3


def _total(times_ms: dict[str, Times], ops: Iterable[str]) -> Times:
    """The sum over operator types, run by run; those that did not run count nothing."""
    return sum((times_ms[op] for op in ops if op in times_ms), np.zeros(1))


def _middle_mean(times_ms: Times) -> float:
    """Mean of the middle half: robust as the median, and finer than the whole microseconds of the profile."""
    ranked = np.sort(times_ms)
    cut = len(ranked) // 4
    return float(ranked[cut : len(ranked) - cut].mean())
