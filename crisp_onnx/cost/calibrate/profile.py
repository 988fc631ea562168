"""Time every operator of a model inside ONNX Runtime, by its own profiler, many runs each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.model import TensorSpec
from crisp_onnx.runtime.latency import seeded_input
from crisp_onnx.runtime.opening import CPU, timing_options
from crisp_onnx.runtime.profiled import profile_nodes
from crisp_onnx.runtime.turns import Run, timed

QUIET_PERCENTILE = 10  # other work on the machine only ever adds time


@dataclass(frozen=True)
class TimedNode:
    op: str
    time_us: float
    output_bytes: int


@dataclass(frozen=True)
class Profile:
    """Nodes by name as ONNX Runtime runs them (fused, renamed), in order, and ms of a run without the profiler."""

    nodes: dict[str, TimedNode]
    whole_ms: float


def profile(
    path: Path, spec: TensorSpec, *, threads: int, kernels: Path | None = None, budget_s: float = 0.6, fewest: int = 8
) -> Profile:
    """Run a model on random images as its input `spec` asks for them: the whole unprofiled, then its parts.

    Each has a session of its own, the only one alive (see `turns`). With one thread the whole is processor time, which
    waiting for other programs does not lengthen.
    """
    feed = {spec.name: seeded_input(spec, batch=1)}
    clock = time.process_time if threads == 1 else time.perf_counter
    whole = timed(partial(_opened, path, threads, kernels, feed), clock=clock)(budget_s / 2)
    nodes = profile_nodes(path, budget_s / 2, threads=threads, feed=feed, kernels=kernels, fewest=fewest)
    return Profile(
        {
            name: TimedNode(node.op, 1e3 * float(np.percentile(node.ms, QUIET_PERCENTILE)), node.output_bytes)
            for name, node in nodes.items()
        },
        float(np.percentile(whole, QUIET_PERCENTILE)),
    )


def _opened(path: Path, threads: int, kernels: Path | None, feed: Mapping[str, npt.NDArray[Any]]) -> Run:
    options = timing_options(threads)
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    return partial(ort.InferenceSession(str(path), options, providers=[CPU]).run, None, feed)
