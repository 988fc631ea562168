"""Time one layer sparse and dense on this machine: the operators alone, and the layout conversions around them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort

from crisp_onnx.runtime.latency import timing_options
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.library import library_path

REORDERS = ("ReorderInput", "ReorderOutput")
FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one call.

    `dense_ms`, `hybrid_ms`: the operator with its activation. `seam_ms`: converting the input from the runtime's
    blocked layout and the output back, which a hybrid layer between two dense ones pays.
    """

    dense_ms: float
    hybrid_ms: float
    seam_ms: float

    @property
    def speedup(self) -> float:
        """Dense time over hybrid time, without seams."""
        return self.dense_ms / self.hybrid_ms


def measure_layer(case: LayerCase, *, threads: int = 1, rounds: int = 25, budget_s: float = 0.4) -> LayerTimes:
    """Run the layer dense and hybrid in turn and take the medians of the runtime's own profile.

    Ends after `rounds` of both, or when `budget_s` seconds are spent, but not under five rounds.

    Raises:
        CrispError: the native kernels do not load on this machine.
    """
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
    compute = (op for op in dense_events if op not in REORDERS)
    return LayerTimes(
        sum(dense_events[op] for op in compute), sum(hybrid_events.values()), _total(dense_events, REORDERS)
    )


def _profiled(model: bytes, threads: int, folder: str, library: Path | None) -> ort.InferenceSession:
    options = timing_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder) / ("hybrid" if library else "dense"))
    if library:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _node_ms(profile: Path) -> dict[str, float]:
    """Operator type -> median milliseconds of its node, from a profile of ONNX Runtime."""
    found: dict[str, list[float]] = {}
    events: list[dict[str, Any]] = json.loads(profile.read_text(encoding="utf-8"))
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            found.setdefault(event["args"]["op_name"], []).append(event["dur"] / 1e3)
    return {op: median(times) for op, times in found.items()}


def _total(times_ms: dict[str, float], ops: Iterable[str]) -> float:
    return sum(times_ms.get(op, 0.0) for op in ops)
