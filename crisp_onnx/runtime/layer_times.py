"""Time one layer sparse and dense on this machine: the operators alone, and the layout conversions around them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from crisp_onnx.runtime.latency import NOISY_SPREAD
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.library import library_path
from crisp_onnx.runtime.profiled import NodeTimes, profile_nodes
from crisp_onnx.runtime.turns import Times, take_turns

REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")
"""Conversions into ONNX Runtime's own layouts: blocked for float32, channels last for int8."""
ROUNDS = 5
TRIES = 3
LEAST_SPENT = 0.85
"""Of the time of all turns, what this process has of a processor where no other program wants it: the longer side waits
more often, and the ratio is wrong however steady it is."""
LEAST_MS = 5e-4
"""The profile counts whole microseconds: its 0 stands for up to one."""

Turn = tuple[Times, Times]
"""Milliseconds of the operator, and of the layout conversions around it, in every run of a turn."""


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one call.

    `dense_ms`, `hybrid_ms`: the operator with its activation. `seam_ms`: converting the input from the runtime's
    blocked layout and the output back, which a hybrid layer between two dense ones pays. `noisy`: the middle half of
    the ratios, round by round, spans more than a quarter of their median, or other programs had the processor.
    """

    dense_ms: float
    hybrid_ms: float
    seam_ms: float
    noisy: bool = False


def measure_layer(case: LayerCase, *, threads: int = 1, budget_s: float = 0.2) -> LayerTimes:
    """Run the layer dense and hybrid in turn and read their times off the runtime's own profile.

    Takes `budget_s` seconds a side. Goes on where the machine was too noisy, for thrice that at most.

    Raises:
        CrispError: the native kernels do not load on this machine, or there is no room for the profile.
    """
    return measure_sides(dense_and_hybrid(case), {"x": case.feed()}, threads=threads, budget_s=budget_s)


def measure_sides(
    models: tuple[bytes, bytes],
    feed: Mapping[str, np.ndarray],
    *,
    natives: tuple[bool, bool] = (False, True),
    threads: int = 1,
    budget_s: float = 0.2,
) -> LayerTimes:
    """As `measure_layer`, for any two forms of a layer; `natives`: which of them our kernels run."""
    sides = [
        partial(_turn, model=model, threads=threads, feed=feed, hybrid=native)
        for model, native in zip(models, natives, strict=True)
    ]
    rounds: list[tuple[Turn, ...]] = []
    for _ in range(TRIES):
        wall_s, spent_s = time.perf_counter(), time.process_time()
        rounds += take_turns(sides, budget_s=budget_s, rounds=ROUNDS)
        waited = time.process_time() - spent_s < LEAST_SPENT * (time.perf_counter() - wall_s)
        times = summarize_layer(rounds)
        times = replace(times, noisy=times.noisy or waited)
        if not times.noisy:
            break
    return times


def summarize_layer(rounds: Sequence[Sequence[Turn]]) -> LayerTimes:
    """Medians over the rounds of what a turn says: the dense side's first, then the hybrid one's."""
    dense, hybrid = (np.array([_middle_mean(turn[side][0]) for turn in rounds]) for side in (0, 1))
    seam = np.array([_middle_mean(turn[0][1]) for turn in rounds])
    low, middle, high = np.percentile(dense / hybrid, (25, 50, 75))
    return LayerTimes(
        float(np.median(dense)),
        float(np.median(hybrid)),
        float(np.median(seam)),
        noisy=bool(high - low > NOISY_SPREAD * middle),
    )


def _turn(seconds: float, *, model: bytes, threads: int, feed: Mapping[str, np.ndarray], hybrid: bool) -> Turn:
    kernels = library_path() if hybrid else None
    nodes = profile_nodes(model, seconds, threads=threads, feed=feed, kernels=kernels).values()
    seams = [node for node in nodes if node.op in REORDERS]
    layer = [node for node in nodes if hybrid or node.op not in REORDERS]
    return np.maximum(_total(layer), LEAST_MS), _total(seams)


def _total(nodes: Iterable[NodeTimes]) -> Times:
    """The sum over nodes, run by run."""
    return sum((node.ms for node in nodes), np.zeros(1))


def _middle_mean(times_ms: Times) -> float:
    """Mean of the middle half: robust as the median, and finer than the whole microseconds of the profile."""
    ranked = np.sort(times_ms)
    cut = len(ranked) // 4
    return float(ranked[cut : len(ranked) - cut].mean())
