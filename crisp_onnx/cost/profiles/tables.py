"""Tables of compilers and runtimes: Vela's CSV files, and the counters of OpenVINO's `benchmark_app`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from math import isfinite

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import Layer
from crisp_onnx.lowering.schema import OpKind

VELA_KINDS: Mapping[str, OpKind] = {
    "Conv2D": "conv3x3",
    "Conv2DBias": "conv3x3",
    "DepthwiseConv2D": "depthwise",
    "DepthwiseConv2DBias": "depthwise",
    "FullyConnected": "gemv",
    "MatMul": "gemm",
    "MaxPool": "pool",
    "AvgPool": "pool",
}


def is_vela_layers(header: str) -> bool:
    return "NNG Operator" in header and "MAC Count" in header


def is_vela_summary(header: str) -> bool:
    return "nn_macs" in header and "cycles_total" in header


def is_openvino(header: str) -> bool:
    return header.startswith("layerName;") and "realTime" in header


def read_vela_layers(text: str, clock_hz: float) -> Profile:
    """`<network>_per-layer.csv` of `vela --verbose-performance`; cycles are of `clock_hz`."""
    rows = list(csv.DictReader(io.StringIO(text)))
    found = [
        TimedLayer(
            row["Name"] or row["NNG Operator"],
            VELA_KINDS.get(row["NNG Operator"], "elementwise"),
            1e6 * _count(row, "Op Cycles") / clock_hz,
            macs=int(_count(row, "MAC Count")),
            memory_us=1e6 * (_count(row, "DRAM AC") + _count(row, "OffFlash AC")) / clock_hz,
        )
        for row in rows
        if _count(row, "Op Cycles") and _count(row, "MAC Count")
    ]
    return Profile("Vela", tuple(found), len(rows) - len(found))


def read_vela_summary(text: str) -> Profile:
    """`<network>_summary_<system>.csv`, one network a row: several files may stand one after the other."""
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["nn_macs"] != "nn_macs"]
    found = [
        TimedLayer(
            row["network"],
            "conv3x3",
            1e6 * _count(row, "cycles_total") / _count(row, "core_clock"),
            macs=int(_count(row, "nn_macs")),
            moved_bytes=int(_count(row, "dram_total_bytes") + _count(row, "off_chip_flash_total_bytes")),
            dtype="int8",
        )
        for row in rows
    ]
    return Profile("Vela", tuple(found), 0)


def read_openvino(text: str, layers: Iterable[Layer]) -> Profile:
    """`benchmark_app -report_type detailed_counters`: times by layer name; `layers`: of the model, for their shapes.

    Raises:
        CrispError: no layer of the table has the name of one of the model.
    """
    known = {layer.name: layer for layer in layers}
    rows = [row for row in csv.DictReader(io.StringIO(text), delimiter=";") if row.get("execStatus") != "NOT_RUN"]
    found = []
    for row in rows:
        name = (row.get("layerName") or "").removesuffix("/WithoutBiases")
        layer, time_ms = known.get(name), float(row.get("realTime (ms)") or 0)
        if layer is not None and time_ms > 0:
            dtype = "int8" if "i8" in (row.get("execType") or "").lower() else ""
            found.append(_of_model(layer, 1e3 * time_ms, dtype))
    if not found:
        raise CrispError(
            "No layer of the profile has the name of a layer of the model. Give the --model that was measured."
        )
    return Profile("OpenVINO", tuple(found), len(rows) - len(found))


def _count(row: Mapping[str, str], column: str) -> float:
    """What a column counts.

    Raises:
        ValueError: a number that counts nothing: negative, infinite or none.
    """
    found = float(row[column])
    if not (isfinite(found) and found >= 0):
        raise ValueError(f"column {column!r} holds {row[column]}, which counts nothing")
    return found


def _of_model(layer: Layer, time_us: float, dtype: str) -> TimedLayer:
    size = 1 if dtype == "int8" else 4
    moved = 0 if layer.matrix else (layer.inputs + layer.outputs) * size
    return TimedLayer(layer.name, layer.kind, time_us, layer.matrix, moved_bytes=moved, dtype=dtype)
