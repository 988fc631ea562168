"""Run a model under ONNX Runtime's profiler and read the times of its nodes."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.runtime.opening import CPU, timing_options
from crisp_onnx.runtime.turns import FEWEST_RUNS, Times, warm_up

MOST_PROFILED = 400
"""Runs: each writes a line a node."""
RENAMED = re.compile(r"((_bn|_mul)?_nchwc|_token_\d+|/\w+Fusion/?)+$")
"""What the runtime puts behind the names of nodes that it changes."""


@dataclass(frozen=True)
class NodeTimes:
    """A node as the runtime runs it (fused, renamed): milliseconds of every run, whole microseconds each."""

    op: str
    ms: Times
    output_bytes: int


def profile_nodes(
    model: Path | bytes,
    seconds: float,
    *,
    threads: int,
    feed: Mapping[str, npt.NDArray[Any]],
    kernels: Path | None = None,
    fewest: int = FEWEST_RUNS,
) -> dict[str, NodeTimes]:
    """Nodes by name, in the order in which they run. One turn (see `turns`): the session ends with it.

    `kernels`: the library with the hybrid operators, for models that have some.

    Raises:
        CrispError: the profile cannot be written, for example because the disk is full.
    """
    options = timing_options(threads)
    options.enable_profiling = True
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    try:
        with tempfile.TemporaryDirectory(prefix="crisp-profile-") as folder:
            options.profile_file_prefix = str(Path(folder) / "run")
            source = model if isinstance(model, bytes) else str(model)
            session = ort.InferenceSession(source, options, providers=[CPU])
            skipped = warm_up(lambda: session.run(None, feed), seconds)
            end, count = time.perf_counter() + seconds, 0
            while count < fewest or (count < MOST_PROFILED and time.perf_counter() < end):
                session.run(None, feed)
                count += 1
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CrispError(
            f"ONNX Runtime's profile cannot be kept in {tempfile.gettempdir()}: {error}. "
            "Free some space, or set TMPDIR to another folder."
        ) from error
    return _nodes(events, skipped)


def _nodes(events: list[dict[str, Any]], skipped: int) -> dict[str, NodeTimes]:
    """Times by node without the first `skipped` runs. A node that ran several times a run (Loop) counts as one more."""
    times: dict[str, list[float]] = {}
    facts: dict[str, tuple[str, int]] = {}
    for event in events:
        if event.get("cat") != "Node" or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        name = event["name"].removesuffix("_kernel_time")
        times.setdefault(name, []).append(event["dur"] / 1e3)
        facts[name] = event["args"]["op_name"], int(event["args"].get("output_size", 0))
    return {name: NodeTimes(facts[name][0], np.array(found[skipped:]), facts[name][1]) for name, found in times.items()}
