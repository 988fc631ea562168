"""Write a calibration as a crisp-hw/1 target whose numbers say `measured` and `fitted`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from crisp_onnx.cost.calibrate.fit import PARTS, KindFit, RunFit
from crisp_onnx.cost.calibrate.times import Times
from crisp_onnx.lowering.schema import SCHEMA, TimingKind

CLOCK_HZ = 1e9  # every time is in ns, so the clock only gives cycles a length


@dataclass(frozen=True)
class Accuracy:
    """On layers of networks that the fit never saw: absolute relative errors."""

    layers_fitted: int
    layers_held_out: int
    median_error_percent: float
    p90_error_percent: float


@dataclass(frozen=True)
class Calibrated:
    """Everything a measured target is made of."""

    name: str
    times: Times
    kinds: dict[TimingKind, KindFit]
    runs: RunFit
    accuracy: Accuracy


def target_text(found: Calibrated) -> str:
    """The YAML file."""
    times = found.times
    threads = "1 thread" if times.threads == 1 else f"{times.threads} threads"
    where = f"{times.machine.cpu}, {threads}, ONNX Runtime {times.onnxruntime}, {times.date}"
    dtypes = ("fp32", "int8") if any(kind.startswith("int8") for kind in found.kinds) else ("fp32",)
    content = {
        "schema": SCHEMA,
        "name": found.name,
        "kind": "cpu",
        "version": 1,
        "summary": f"This machine, measured: {where}",
        "clock": {"hz": _number(CLOCK_HZ, "Hz", "assumed", "times are in ns; cycles are ns")},
        "array": {
            "rows": _number(1, "count", "assumed", "the timing section decides"),
            "lanes": _number(1, "count", "assumed", "the timing section decides"),
            "peak_dense_mac_per_cycle": {
                dtype: _number(_peak(found, dtype), "MAC/cycle", "fitted", f"fastest kind of layer: {where}")
                for dtype in dtypes
            },
        },
        "layout": {"k_order": "channel_last"},
        "memory": _memory(times, where),
        "sparsity": _sparsity(found),
        "overhead": _overhead(found, where),
        "timing": {
            "granule": _number(times.machine.granule, "values", "assumed", "floats of one vector register"),
            **_near(times.machine.near_bytes),
            "kinds": {kind: _kind(fit, found.runs, where) for kind, fit in found.kinds.items()},
        },
        "dtypes": list(dtypes),
        "calibration": _calibration(times, found.accuracy),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=False, width=120, default_flow_style=None)


def _memory(times: Times, where: str) -> list[dict[str, Any]]:
    read_bw = _number(round(times.bandwidth_bytes_s), "B/s", "measured", f"one thread reading: {where}")
    return [
        {"name": "DRAM", "read_bw": read_bw, "mode": "shared"},
        {"name": "last cache", "capacity": _number(times.machine.cache_bytes, "B", "measured", "sysfs")},
    ]


def _calibration(times: Times, accuracy: Accuracy) -> dict[str, Any]:
    return {
        "cpu": times.machine.cpu,
        "threads": times.threads,
        **_apart(times.cores_apart_ns),
        "governor": times.machine.governor,
        "onnxruntime": times.onnxruntime,
        "date": times.date,
        "layers_fitted": accuracy.layers_fitted,
        "layers_held_out": accuracy.layers_held_out,
        "median_error_percent": round(accuracy.median_error_percent, 2),
        "p90_error_percent": round(accuracy.p90_error_percent, 2),
    }


def _near(near_bytes: int) -> dict[str, Any]:
    return {"near": _number(near_bytes, "B", "measured", "sysfs")} if near_bytes else {}


def _apart(cores_apart_ns: float | None) -> dict[str, Any]:
    return {} if cores_apart_ns is None else {"cores_apart_ns": round(cores_apart_ns, 1)}


def _peak(found: Calibrated, dtype: str) -> float:
    """MACs a cycle of the fastest kind of layer in `dtype`."""
    of_type = [fit for kind, fit in found.kinds.items() if kind.startswith("int8") == (dtype == "int8")]
    rates = [1e6 / fit.parts_us[1] for fit in of_type if fit.parts_us[1] > 0]
    return round(max(rates, default=CLOCK_HZ) / CLOCK_HZ, 4)


def _sparsity(found: Calibrated) -> dict[str, Any]:
    """Only what was measured counts: without the kernels' times the hybrid operators gain nothing here."""
    if not any(kind.startswith("hybrid") for kind in found.kinds):
        return {"hybrid_operators_only": True}
    nm = [{"pattern": pattern, "compute": "skip", "storage": True} for pattern in ("2:4", "1:4")]
    return {
        "hybrid_operators_only": True,
        "nm": nm,
        "block": {"compute": "skip", "storage": True, "min_bh": _number(16, "values", "measured", "blocks of 16")},
    }


def _overhead(found: Calibrated, where: str) -> dict[str, Any]:
    if found.runs.per_run_us <= 0:
        return {}
    return {"per_inference": _number(round(found.runs.per_run_us, 4), "us", "fitted", f"of a whole run: {where}")}


def _kind(fit: KindFit, runs: RunFit, where: str) -> dict[str, Any]:
    """Parts that came out as zero are left out: they are not known to be anything else."""
    ref = f"{fit.rows} layers, median error {100 * fit.median_error:.1f} %: {where}"
    parts = dict(zip(PARTS, fit.parts_us, strict=True))
    parts["fixed"] += runs.per_layer_us
    return {
        part: _number(float(f"{1e3 * value:.6g}"), "ns", "fitted", ref) for part, value in parts.items() if value > 0
    }


def _number(value: float, unit: str, prov: str, ref: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "prov": prov, "ref": ref}
