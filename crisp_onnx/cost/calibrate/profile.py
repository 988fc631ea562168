"""Time every operator of a model inside ONNX Runtime, by its own profiler, many runs each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.model import Model, TensorSpec, save
from crisp_onnx.runtime.latency import seeded_input
from crisp_onnx.runtime.opening import CPU, timing_options
from crisp_onnx.runtime.profiled import profile_nodes
from crisp_onnx.runtime.turns import Run, Times, timed

QUIET_SHARE = 0.25  # of the runs: other work on the machine only ever adds time


@dataclass(frozen=True)
class TimedNode:
    op: str
    time_us: float
    output_bytes: int


@dataclass(frozen=True)
class Profile:
    """Nodes by name as ONNX Runtime runs them (fused, renamed), in order, and ms of a run without the profiler.

    Both are means over the quickest quarter of the runs. The profiler counts whole microseconds, which a mean over runs
    refines and a percentile would not; and one choice of runs for all nodes keeps their sum that of the runs.

    `cores_apart_ns`: how far the threads' cores stood apart meanwhile; None where that is not known.
    """

    nodes: dict[str, TimedNode]
    whole_ms: float
    cores_apart_ns: float | None = None

    def quicker(self, other: Profile) -> Profile:
        """Of two profiles of one model the one that was disturbed less."""
        return self if self.whole_ms <= other.whole_ms else other


def profile_model(model: Model, *, threads: int, kernels: Path | None = None, budget_s: float = 0.6) -> Profile:
    """Run `model`. `kernels`: the library with the hybrid operators, for models that have some."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        save(model, path)
        return profile(path, model.input, threads=threads, kernels=kernels, budget_s=budget_s)


def profile(
    path: Path, spec: TensorSpec, *, threads: int, kernels: Path | None = None, budget_s: float = 0.6, fewest: int = 8
) -> Profile:
    """Run a model on random images as its input `spec` asks for them: the whole unprofiled, then its parts.

    Each has a session of its own, the only one alive (see `turns`).
    """
    feed = {spec.name: seeded_input(spec, batch=1)}
    whole = timed(partial(_opened, path, threads, kernels, feed), threads=threads)(budget_s / 2)
    nodes = profile_nodes(path, budget_s / 2, threads=threads, feed=feed, kernels=kernels, fewest=fewest)
    runs = min((len(node.ms) for node in nodes.values()), default=0)
    quiet = _quickest(np.sum([node.ms[:runs] for node in nodes.values()], axis=0))
    return Profile(
        {
            name: TimedNode(node.op, 1e3 * float(node.ms[quiet].mean()), node.output_bytes)
            for name, node in nodes.items()
        },
        float(whole[_quickest(whole)].mean()),
    )


def _quickest(times: Times) -> npt.NDArray[np.int64]:
    """Places of the quickest quarter of `times`, of one at least."""
    return np.argsort(times)[: max(1, round(QUIET_SHARE * len(times)))]


def _opened(path: Path, threads: int, kernels: Path | None, feed: Mapping[str, npt.NDArray[Any]]) -> Run:
    options = timing_options(threads)
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    return partial(ort.InferenceSession(str(path), options, providers=[CPU]).run, None, feed)
