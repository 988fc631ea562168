"""Calibrate: measure synthetic networks, fit, check on networks left out, and give the target file."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from crisp_onnx.cost.calibrate.fit import fit_kinds, fit_runs, predict_us
from crisp_onnx.cost.calibrate.forms import DENSE, FORMS
from crisp_onnx.cost.calibrate.machine import Machine, read_bandwidth_bytes_s, this_machine
from crisp_onnx.cost.calibrate.samples import Measured, measure_model
from crisp_onnx.cost.calibrate.synthetic import synthetic_network
from crisp_onnx.cost.calibrate.write import Accuracy, Calibrated
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import load_target
from crisp_onnx.progress import bar

NETWORKS = 120
TURNS = ((DENSE, "hybrid int8"), ("hybrid", "int8"))
"""Forms in which networks are timed in turn."""
HELD_OUT = 5  # every fifth network judges the fit
log = logging.getLogger(__name__)


def calibrate(
    name: str, *, threads: int = 1, networks: int = NETWORKS, kernels: Path | None = None, budget_s: float = 0.6
) -> Calibrated:
    """Measure this machine: about a second a network, so a few minutes with the default.

    `kernels`: the library with the hybrid operators; without it only dense layers are measured.

    Raises:
        CrispError: too few networks to fit anything.
    """
    measured = measure_networks(threads=threads, networks=networks, kernels=kernels, budget_s=budget_s)
    return fit_all(name, measured, this_machine(), threads=threads, bandwidth_bytes_s=read_bandwidth_bytes_s())


def measure_networks(*, threads: int, networks: int, kernels: Path | None, budget_s: float) -> list[Measured]:
    """Synthetic networks 0 to `networks` - 1, each in the forms of its turn; without kernels only as they are."""
    base, granule = load_target("x86_avx2"), this_machine().granule
    measured = []
    with bar("measuring layers", networks) as advance:
        for seed in range(networks):
            network = synthetic_network(seed)
            for form in TURNS[seed % len(TURNS)] if kernels is not None else (DENSE,):
                model = FORMS[form](network, seed)
                if model is not None:
                    found = measure_model(
                        model,
                        f"{form} {seed}",
                        base,
                        threads=threads,
                        granule=granule,
                        kernels=kernels,
                        budget_s=budget_s,
                    )
                    measured.append(found)
            advance(1)
    return measured


def fit_all(
    name: str, measured: Sequence[Measured], machine: Machine, *, threads: int, bandwidth_bytes_s: float
) -> Calibrated:
    """Fit on four fifths of the networks, judge on the others; the file holds the fit that was judged.

    Raises:
        CrispError: too few networks to fit anything.
    """
    fitted = [m for m in measured if _number(m) % HELD_OUT]
    held_out = [m for m in measured if not _number(m) % HELD_OUT]
    kinds = fit_kinds([s for m in fitted for s in m.samples], machine, bandwidth_bytes_s)
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
        machine=machine,
        threads=threads,
        onnxruntime=str(ort.__version__),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        bandwidth_bytes_s=bandwidth_bytes_s,
        kinds=kinds,
        runs=fit_runs(fitted),
        accuracy=accuracy,
    )


def _number(measured: Measured) -> int:
    return int(measured.network.rpartition(" ")[2])
