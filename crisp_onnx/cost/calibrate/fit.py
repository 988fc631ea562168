"""Fit the time of a layer, kind by kind, as a sum of non-negative parts: fixed, per MAC, per byte of each operand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.cost.calibrate.machine import Machine
from crisp_onnx.cost.calibrate.samples import Measured, Sample
from crisp_onnx.lowering.schema import TimingKind
from crisp_onnx.lowering.timing import PARTS, fetched_share, timing_kind, work

Floats = npt.NDArray[np.float64]
HUBER = 0.1
ROUNDS = 12
MOST_ROUNDS = 60
TOLERANCE = 1e-10
LEAST_ROWS = 6
FETCHING: tuple[TimingKind, ...] = ("gemv", "int8_gemv")
WEIGHT_BYTE, FAR_WEIGHT_BYTE = PARTS.index("weight_byte"), PARTS.index("far_weight_byte")


@dataclass(frozen=True)
class KindFit:
    """us per part (see `timing.PARTS`), rows used, and their median absolute relative error."""

    parts_us: tuple[float, ...]
    rows: int
    median_error: float


@dataclass(frozen=True)
class RunFit:
    """us that a run takes beside its layers: once, and for every layer; less than none where timing them takes time."""

    per_run_us: float
    per_layer_us: float


def fit_kinds(samples: Sequence[Sample], machine: Machine, bandwidth_bytes_s: float) -> dict[TimingKind, KindFit]:
    """One fit for every kind that has at least six samples.

    Layers whose weights are few say little of what a byte of them takes. From beyond the caches it is drawn to the
    pace of products of one position, which do little but fetch them, as strongly as one more layer would that had
    nothing but weights; and those to the memory's bandwidth.
    """
    by_kind: dict[TimingKind, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.time_us > 0:
            by_kind[timing_kind(sample.op, machine.granule)].append(sample)
    fits: dict[TimingKind, KindFit] = {}
    fetched: dict[bool, float] = {}
    for kind in sorted(by_kind, key=lambda kind: (kind not in FETCHING, kind)):
        if len(by_kind[kind]) < LEAST_ROWS:
            continue
        on_bytes = kind.startswith("int8")
        fits[kind] = _fit(by_kind[kind], machine, fetched.get(on_bytes, bandwidth_bytes_s))
        if kind in FETCHING:
            took_us = fits[kind].parts_us[WEIGHT_BYTE] + fits[kind].parts_us[FAR_WEIGHT_BYTE]
            fetched[on_bytes] = 1e6 / took_us if took_us > 0 else bandwidth_bytes_s
    return dict(sorted(fits.items()))


def fit_runs(measured: Sequence[Measured]) -> RunFit:
    """What whole runs take beyond the sum of their layers.

    The profiler writes down every layer, which the sum holds and a run without it does not.
    """
    ran = np.array([sum(s.time_us > 0 for s in m.samples) for m in measured], np.float64)
    beyond = np.array([m.whole_ms * 1e3 - sum(s.time_us for s in m.samples) for m in measured])
    scale = np.array([m.whole_ms * 1e3 for m in measured])
    features = np.stack([np.ones(len(measured)), ran, -ran], 1)
    once, each, less = _robust(features / scale[:, None], beyond / scale, np.zeros((0, 3)))
    return RunFit(float(once), float(each - less))


def _fit(rows: Sequence[Sample], machine: Machine, bandwidth_bytes_s: float) -> KindFit:
    times = np.array([row.time_us for row in rows])
    relative = np.array([_work(row, machine) for row in rows]) / times[:, None]
    at_bandwidth = np.zeros((1, len(PARTS)))
    if relative[:, WEIGHT_BYTE].any():
        at_bandwidth[0, [WEIGHT_BYTE, FAR_WEIGHT_BYTE]] = bandwidth_bytes_s / 1e6
    solution = _robust(relative, np.ones(len(rows)), at_bandwidth)
    error = np.abs(relative @ solution - 1)
    return KindFit(tuple(float(part) for part in solution), len(rows), float(np.median(error)))


def _robust(matrix: Floats, target: Floats, known: Floats) -> Floats:
    """Non-negative least squares with Huber weights, reweighted; the `known` rows give 1 and are sure."""
    weights = np.ones(len(target))
    solution = np.zeros(matrix.shape[1])
    for _ in range(ROUNDS):
        rows = np.vstack([matrix * weights[:, None], known])
        solution = nonnegative(rows, np.append(target * weights, known.any(1)))
        error = np.abs(matrix @ solution - target)
        weights = np.sqrt(np.minimum(1, HUBER / np.maximum(error, 1e-9)))
    return solution


def nonnegative(matrix: Floats, target: Floats) -> Floats:
    """x >= 0 that minimises |matrix x - target|, by the active sets of Lawson and Hanson (1974, chapter 23)."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    scaled = matrix / scale
    x = np.zeros(matrix.shape[1])
    free = np.zeros(matrix.shape[1], bool)
    for _ in range(MOST_ROUNDS):
        gradient = scaled.T @ (target - scaled @ x)
        gradient[free] = -np.inf
        if gradient.max() <= TOLERANCE:
            break
        free[int(np.argmax(gradient))] = True
        while True:
            full = np.zeros_like(x)
            full[free] = np.linalg.lstsq(scaled[:, free], target, rcond=None)[0]
            negative = free & (full <= 0)
            if not negative.any():
                break
            # Go as far towards the unconstrained solution as all stay non-negative, and hold what reached zero.
            reach = np.min(x[negative] / (x[negative] - full[negative] + 1e-300))
            x = x + reach * (full - x)
            free &= x > TOLERANCE
        x = full
    return np.asarray(x / scale)


def _work(sample: Sample, machine: Machine) -> tuple[float, ...]:
    fetched = fetched_share(sample.model_weight_bytes, machine.cache_bytes)
    return work(sample.op, machine.granule, fetched, machine.near_bytes)


def predict_us(sample: Sample, fits: dict[TimingKind, KindFit], machine: Machine) -> float | None:
    """The fitted time of one layer, `None` where its kind was not fitted."""
    found = fits.get(timing_kind(sample.op, machine.granule))
    if found is None:
        return None
    return sum(rate * amount for rate, amount in zip(found.parts_us, _work(sample, machine), strict=True))


__all__ = ["PARTS", "KindFit", "RunFit", "fit_kinds", "fit_runs", "nonnegative", "predict_us"]
