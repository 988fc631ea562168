"""Calibrate: measure synthetic networks, fit, check on networks left out, and give the target file."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from crisp_onnx.cost.calibrate.fit import fit_kinds, fit_runs, predict_us
from crisp_onnx.cost.calibrate.forms import DENSE, FORMS
from crisp_onnx.cost.calibrate.machine import read_bandwidth_bytes_s, this_machine
from crisp_onnx.cost.calibrate.profile import Profile, profile_model
from crisp_onnx.cost.calibrate.samples import Measured, pair
from crisp_onnx.cost.calibrate.steady import steady
from crisp_onnx.cost.calibrate.synthetic import synthetic_network
from crisp_onnx.cost.calibrate.times import Times
from crisp_onnx.cost.calibrate.write import Accuracy, Calibrated
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import load_target
from crisp_onnx.progress import bar
from crisp_onnx.runtime.library import core_distance_ns

NETWORKS = 120
ROUNDS = 2
TURNS = ((DENSE, "hybrid int8"), ("hybrid", "int8"))
"""Forms in which networks are timed in turn."""
HELD_OUT = 5  # every fifth network judges the fit
log = logging.getLogger(__name__)


def measure(*, threads: int = 1, networks: int = NETWORKS, kernels: Path | None = None, budget_s: float = 0.6) -> Times:
    """Measure this machine on synthetic networks: about a second each, so a few minutes with the default.

    Each network is timed in the two forms of its turn, twice, minutes apart, and the quicker time counts: what else
    the machine does comes and goes. Several threads are timed anew where their cores stood far apart meanwhile.
    `kernels`: the library with the hybrid operators; without it
    only floats without sparsity are measured.
    """
    bandwidth_bytes_s, near_ns = read_bandwidth_bytes_s(), core_distance_ns(threads)
    profiles: dict[str, Profile] = {}
    with bar("measuring layers", ROUNDS * networks) as advance:
        for seed in (*range(networks),) * ROUNDS:
            network = synthetic_network(seed)
            for form in TURNS[seed % len(TURNS)] if kernels is not None else (DENSE,):
                model, key = FORMS[form](network, seed), f"{form} {seed}"
                if model is not None:
                    timed = partial(profile_model, model, threads=threads, kernels=kernels, budget_s=budget_s / ROUNDS)
                    found = steady(timed, threads, near_ns)
                    if near_ns is not None and found.cores_apart_ns is not None:
                        near_ns = min(near_ns, found.cores_apart_ns)
                    profiles[key] = found.quicker(profiles.get(key, found))
            advance(1)
    return Times(
        machine=this_machine(),
        threads=threads,
        onnxruntime=str(ort.__version__),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        bandwidth_bytes_s=max(bandwidth_bytes_s, read_bandwidth_bytes_s()),
        profiles=profiles,
    )


def calibrate(name: str, times: Times) -> Calibrated:
    """Pair the times with the layers of their networks, which are made again, and fit.

    Raises:
        CrispError: too few networks to fit anything, or times of no network.
    """
    base, measured = load_target("x86_avx2"), []
    with bar("fitting layers", len(times.profiles)) as advance:
        for network, profile in times.profiles.items():
            form, _, number = network.rpartition(" ")
            model = FORMS[form](synthetic_network(int(number)), int(number)) if _known(form, number) else None
            if model is None:
                raise CrispError(f"The times name a network {network!r}, which is not measured here. Measure anew.")
            measured.append(pair(model, network, base, profile, granule=times.machine.granule))
            advance(1)
    return fit_all(name, measured, times)


def _known(form: str, number: str) -> bool:
    return form in FORMS and number.isdecimal()


def fit_all(name: str, measured: Sequence[Measured], times: Times) -> Calibrated:
    """Fit on four fifths of the networks, judge on the others; the file holds the fit that was judged.

    Raises:
        CrispError: too few networks to fit anything.
    """
    machine = times.machine
    fitted = [m for m in measured if _number(m) % HELD_OUT]
    held_out = [m for m in measured if not _number(m) % HELD_OUT]
    kinds = fit_kinds([s for m in fitted for s in m.samples], machine, times.bandwidth_bytes_s)
    if not kinds or not held_out:
        raise CrispError(f"{len(measured)} networks are too few to calibrate. Measure at least 20.")
    errors = [
        abs(predicted / sample.time_us - 1)
        for m in held_out
        for sample in m.samples
        if sample.time_us > 0 and (predicted := predict_us(sample, kinds, machine)) is not None
    ]
    accuracy = Accuracy(
        layers_fitted=sum(fit.rows for fit in kinds.values()),
        layers_held_out=len(errors),
        median_error_percent=100 * float(np.median(errors)),
        p90_error_percent=100 * float(np.percentile(errors, 90)),
    )
    log.info("held-out layers: median error %.1f %%", accuracy.median_error_percent)
    return Calibrated(
        name=name,
        times=times,
        kinds=kinds,
        runs=fit_runs(fitted),
        accuracy=accuracy,
    )


def _number(measured: Measured) -> int:
    return int(measured.network.rpartition(" ")[2])
