"""Measure models side by side: interleaved runs A B A B, medians and spread, and the ratio pair by pair.

A shared machine's speed drifts by more than the difference one wants to see. Two runs that follow each other meet the
same drift, so their ratio is worth more than the ratio of two medians. A turn begins with a run that is not timed: the
other side has just filled the caches with its own weights, which never happens to a model in service.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.model import DEFAULT_SIZE, Size, TensorSpec
from crisp_onnx.runtime.opening import session

NOISY_SPREAD = 0.25
log = logging.getLogger(__name__)
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile of one quantity."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Timing:
    """What a measurement says.

    `sides_ms`: milliseconds of one run, a side each. `ratios`: the first side's time over each side's, round by round
    (the first ratio is 1; above 1 means faster than the first side). `noisy`: some ratio's 10th to 90th percentile
    spans more than a quarter of its median; `note` then says so in a sentence.
    """

    sides_ms: tuple[Spread, ...]
    ratios: tuple[Spread, ...]
    rounds: int
    noisy: bool
    note: str


def interleave(
    runs: Sequence[Callable[[], object]],
    *,
    repeats: int = 200,
    warmup: int = 3,
    budget_s: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Milliseconds, shape (rounds, sides), of `runs` called in turn, each turn's second run.

    Ends after `repeats` rounds, or when `budget_s` seconds a side are spent (warm-up included), but not under three.
    """
    end = clock() + budget_s * len(runs)
    for _ in range(warmup):
        for run in runs:
            run()
        if clock() > end:
            break
    rounds: list[list[float]] = []
    while len(rounds) < repeats and (len(rounds) < 3 or clock() < end):
        row = []
        for run in runs:
            run()
            start = clock()
            run()
            row.append((clock() - start) * 1e3)
        rounds.append(row)
    return np.array(rounds, dtype=np.float64).reshape(len(rounds), len(runs))


def summarize(times_ms: Times) -> Timing:
    """Medians, spreads and ratios of times of shape (rounds, sides)."""
    sides = tuple(_spread(column) for column in times_ms.T)
    ratios = tuple(_spread(times_ms[:, 0] / column) for column in times_ms.T)
    widest = max(ratios, key=lambda ratio: (ratio.p90 - ratio.p10) / ratio.median)
    noisy = (widest.p90 - widest.p10) > NOISY_SPREAD * widest.median
    note = (
        f"The machine was too noisy to trust the latency: over {len(times_ms)} rounds the ratio ran from "
        f"{widest.p10:.2f} to {widest.p90:.2f} (10th to 90th percentile). Stop other work and measure again."
    )
    return Timing(sides, ratios, len(times_ms), noisy, note if noisy else "")


def side_by_side(
    sessions: Sequence[ort.InferenceSession],
    feeds: Sequence[Mapping[str, npt.NDArray[Any]]],
    *,
    repeats: int = 200,
    warmup: int = 3,
    budget_s: float = 3.0,
) -> Timing:
    """Run every session in turn on its feed and compare them with the first one."""
    runs = [partial(opened.run, None, feed) for opened, feed in zip(sessions, feeds, strict=True)]
    return summarize(interleave(runs, repeats=repeats, warmup=warmup, budget_s=budget_s))


def measure_files(
    paths: Sequence[Path],
    spec: TensorSpec,
    *,
    batch: int = 1,
    threads: int = 1,
    size: Size = DEFAULT_SIZE,
    budget_s: float = 3.0,
    seed: int = 0,
) -> Timing:
    """Open each file as `session` does, with the native kernels where they work, and measure them side by side.

    `spec` is the models' common input, fed with seeded noise; open sides count as those of `size`. A fixed batch in
    `spec` wins.

    Raises:
        CrispError: ONNX Runtime cannot open or run one of the files.
    """
    image = seeded_input(spec, batch=batch, size=size, seed=seed)
    sessions = [timed_session(path, threads) for path in paths]
    feeds = [{opened.get_inputs()[0].name: image} for opened in sessions]
    for path, opened, feed in zip(paths, sessions, feeds, strict=True):
        try:
            opened.run(None, feed)
        except Exception as error:  # onnxruntime raises a type per error code, without a common base
            raise CrispError(f"ONNX Runtime cannot run {path}: {_first_line(error)}") from error
    timing = side_by_side(sessions, feeds, budget_s=budget_s)
    log.info("latency: %d rounds of %d files, batch %d, %d threads", timing.rounds, len(paths), len(image), threads)
    return timing


def timed_session(path: Path, threads: int, *, native: bool | None = None) -> ort.InferenceSession:
    """A session as `session` opens it, with `timing_options`."""
    return session(path, native=native, options=timing_options(threads))


def timing_options(threads: int) -> ort.SessionOptions:
    """Options of a session that is timed, perhaps beside others: its threads rest between runs.

    They also have a core each where there are enough: the system may leave both threads of a small pool on one core for
    seconds, and the model then runs at half its speed.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin on after a run would take cores from the other side's next run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if 1 < threads <= len(cores):  # the runtime counts cores from one, and leaves the calling thread alone
        pinned = ";".join(str(core + 1) for core in cores[1:threads])
        options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
    return options


def seeded_input(spec: TensorSpec, *, batch: int, size: Size = DEFAULT_SIZE, seed: int = 0) -> npt.NDArray[Any]:
    """An input of the shape and type of `spec`: standard normal values, or 0 to 255 for an integer type."""
    rng = np.random.default_rng(seed)
    shape = spec.fixed(batch, size)
    if np.issubdtype(spec.dtype, np.integer):
        return rng.integers(0, min(256, np.iinfo(spec.dtype).max + 1), shape).astype(spec.dtype)  # type: ignore[type-var]
    return rng.standard_normal(shape, dtype=np.float32).astype(spec.dtype)


def _spread(values: Times) -> Spread:
    p10, median, p90 = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return Spread(median, p10, p90)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
