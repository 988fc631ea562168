"""Say how fast models are beside each other: medians and spread of each, and the ratio round by round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError
from crisp_onnx.model import DEFAULT_SIZE, Size, TensorSpec
from crisp_onnx.runtime.opening import session, timing_options
from crisp_onnx.runtime.turns import Run, Times, take_turns, timed

NOISY_SPREAD = 0.25
DISTURBED = 1.5
"""Times the quickest tenth of a turn's runs from which its median tells of other programs."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile of one quantity."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Timing:
    """What a measurement says.

    `sides_ms`: milliseconds of one run, a side each. `ratios`: the first side's time over each side's, median by median
    of every round (the first ratio is 1; above 1 means faster than the first side). `noisy`: some ratio's 10th to 90th
    percentile spans more than a quarter of its median, or half of a side's runs were disturbed; `note` then says so.
    """

    sides_ms: tuple[Spread, ...]
    ratios: tuple[Spread, ...]
    rounds: int
    noisy: bool
    note: str


def summarize(rounds: Sequence[Sequence[Times]]) -> Timing:
    """Medians and spreads of each side's runs, and ratios of the medians of neighbouring turns.

    `rounds`: for each round, milliseconds of every run of each side's turn.
    """
    sides = tuple(_spread(np.concatenate(turns)) for turns in zip(*rounds, strict=True))
    medians = np.array([[np.median(turn) for turn in turns] for turns in rounds])
    ratios = tuple(_spread(medians[:, 0] / column) for column in medians.T)
    widest = max(ratios, key=lambda ratio: (ratio.p90 - ratio.p10) / ratio.median)
    note, disturbed = "", max(_disturbance(turns) for turns in zip(*rounds, strict=True))
    if (widest.p90 - widest.p10) > NOISY_SPREAD * widest.median:
        low, high = f"{widest.p10:.2f}", f"{widest.p90:.2f}"
        note = f"over {len(rounds)} rounds the ratio ran from {low} to {high} (10th to 90th percentile)"
    elif disturbed > DISTURBED:
        note = f"half the runs of one side took at least {disturbed:.1f} times as long as its quickest tenth"
    if note:
        note = f"The machine was too noisy to trust the latency: {note}. Stop other work and measure again."
    return Timing(sides, ratios, len(rounds), bool(note), note)


def _disturbance(turns: Sequence[Times]) -> float:
    """Median over the 10th percentile of a turn's runs, the median of all turns of one side."""
    return float(np.median([np.median(turn) / np.percentile(turn, 10) for turn in turns]))


def compare_runs(openings: Sequence[Callable[[], Run]], *, threads: int, budget_s: float = 3.0) -> Timing:
    """Open, time and close every side in turn, and compare them with the first one. See `turns`."""
    return summarize(take_turns([timed(opening, threads=threads) for opening in openings], budget_s=budget_s))


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
    """Open each file as `session` does, with the native kernels where they work, and measure them in turn.

    `spec` is the models' common input, fed with seeded noise; open sides count as those of `size`. A fixed batch in
    `spec` wins.

    Raises:
        CrispError: ONNX Runtime cannot open or run one of the files.
    """
    image = seeded_input(spec, batch=batch, size=size, seed=seed)
    sides = [partial(opened_run, path, image, threads) for path in paths]
    timing = compare_runs(sides, threads=threads, budget_s=budget_s)
    log.info("latency: %d rounds of %d files, batch %d, %d threads", timing.rounds, len(paths), len(image), threads)
    return timing


def opened_run(path: Path, image: npt.NDArray[Any], threads: int, *, native: bool | None = None) -> Run:
    """One run on `image` of a session that is opened now, as `session` opens it, and held by the run alone.

    Raises:
        CrispError: ONNX Runtime cannot open the file, or not run it on this input.
    """
    opened = session(path, native=native, options=timing_options(threads))
    run = partial(opened.run, None, {opened.get_inputs()[0].name: image})
    try:
        run()
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(f"ONNX Runtime cannot run {path}: {_first_line(error)}") from error
    return run


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
