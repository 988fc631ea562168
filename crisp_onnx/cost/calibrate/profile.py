"""Time every operator of a model inside ONNX Runtime, by its own profiler, many runs each."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.runtime.latency import timing_options

QUIET_PERCENTILE = 10  # other work on the machine only ever adds time
WARM_UP = 3
MOST_RUNS = 400


@dataclass(frozen=True)
class Profile:
    """us by node name as ONNX Runtime runs it (fused, renamed), and ms of a whole run without the profiler.

    `nodes_us` is in execution order; `output_bytes` by the same names.
    """

    nodes_us: dict[str, float]
    output_bytes: dict[str, int]
    whole_ms: float


def profile(
    path: Path, *, threads: int, kernels: Path | None = None, budget_s: float = 0.6, least_runs: int = 8
) -> Profile:
    """Run the model on random images: first without the profiler for the whole, then with it for the parts.

    With one thread the whole is processor time, which waiting for other programs does not lengthen.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    whole = _repeat(_open(path, _options(threads, kernels)), budget_s / 2, least_runs, clock)
    times: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = _options(threads, kernels)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = _open(path, options)
        _repeat(session, budget_s / 2, least_runs, clock)
        for event in json.loads(Path(session.end_profiling()).read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                times[name].append(float(event["dur"]))
                sizes[name] = int(event["args"].get("output_size", 0))
    nodes = {name: float(np.percentile(found[WARM_UP:], QUIET_PERCENTILE)) for name, found in times.items()}
    return Profile(nodes, sizes, float(np.percentile(whole, QUIET_PERCENTILE)))


def _options(threads: int, kernels: Path | None) -> ort.SessionOptions:
    options = timing_options(threads)
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    return options


def _open(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feed(session: ort.InferenceSession) -> Mapping[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    feed = {}
    for spec in session.get_inputs():
        shape = [side if isinstance(side, int) else (224 if axis else 1) for axis, side in enumerate(spec.shape)]
        feed[spec.name] = rng.standard_normal(shape, dtype=np.float32)
    return feed


def _repeat(session: ort.InferenceSession, budget_s: float, least: int, clock: Callable[[], float]) -> list[float]:
    """ms of every run after the warm-up."""
    feed = _feed(session)
    for _ in range(WARM_UP):
        session.run(None, feed)
    found: list[float] = []
    end = time.perf_counter() + budget_s
    while len(found) < least or (time.perf_counter() < end and len(found) < MOST_RUNS):
        start = clock()
        session.run(None, feed)
        found.append((clock() - start) * 1e3)
    return found
