"""The counters of OpenVINO's `benchmark_app`, as CSV or JSON: times by layer, whose shapes the model tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer
from crisp_onnx.cost.profiles.vela import number_of, table_rows
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import Layer
from crisp_onnx.lowering.matrix import BYTES

PRODUCTS = frozenset({"Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul"})
DTYPES = {"i8": "int8", "u8": "int8", "f16": "fp16", "f32": "fp32"}
NOT_RUN = "NOT_RUN"
"""How the status of a layer ends that runs inside of the one before it."""
_COLUMNS = {
    "layerName": "name",
    "execStatus": "status",
    "layerType": "node_type",
    "execType": "exec_type",
    "realTime (ms)": "real_time",
}


def is_table(header: str) -> bool:
    return "layerName" in header and "realTime" in header


def is_document(content: object) -> bool:
    """Of `benchmark_app -json_stats`."""
    return isinstance(content, dict) and ("detailed_performance" in content or "avg_performance" in content)


def read_table(text: str, layers: Iterable[Layer]) -> Profile:
    """`benchmark_app -report_type detailed_counters` (or average_counters); `layers`: of the model that was measured.

    Raises:
        CrispError: no layer of the table is known as one of the model.
        ValueError: a column is missing.
    """
    listed = table_rows(text)
    missing = next((old for old in _COLUMNS if listed and old not in listed[0]), None)
    if missing is not None:
        raise ValueError(f"column {missing!r} is missing")
    rows = [{new: row[old] or "" for old, new in _COLUMNS.items()} for row in listed]
    return _profile(rows, list(layers))


def read_document(content: Mapping[str, Any], layers: Iterable[Layer]) -> Profile:
    """The same counters as JSON.

    Raises:
        CrispError: as above.
    """
    parts = content.get("detailed_performance") or [content["avg_performance"]]
    rows = [{key: str(node.get(key, "")) for key in _COLUMNS.values()} for part in parts for node in part["nodes"]]
    return _profile(rows, list(layers))


def _profile(rows: Sequence[Mapping[str, str]], layers: Sequence[Layer]) -> Profile:
    """Layers by name, or by the name of what runs inside of them: what OpenVINO makes of a convolution and a
    BatchNormalization has a name of its own. Several requests count as one, by their medians."""
    named = {layer.name: layer for layer in layers}
    inside = _by_what_runs_inside(layers)
    times_us: dict[str, list[float]] = defaultdict(list)
    types: dict[str, str] = {}
    ran = 0
    for at, row in enumerate(rows):
        time_ms = number_of(row["real_time"] or "0") if row["node_type"] not in ("", "layerType") else 0.0
        if row["status"].endswith(NOT_RUN) or time_ms <= 0:
            continue
        ran += 1
        layer = named.get(row["name"].removesuffix("/WithoutBiases"))
        if layer is None and row["node_type"] in PRODUCTS:
            layer = _first_known(rows[at + 1 :], inside)
        if layer is not None:
            times_us[layer.name].append(1e3 * time_ms)
            types[layer.name] = _dtype(row["exec_type"].lower())
    found = tuple(_timed(named[name], median(spent), types[name]) for name, spent in times_us.items())
    if not found:
        raise CrispError(
            "No layer of the profile has the name of a layer of the model. Give the --model that was measured."
        )
    return Profile("OpenVINO", found, ran - sum(len(spent) for spent in times_us.values()))


def _by_what_runs_inside(layers: Sequence[Layer]) -> dict[str, Layer]:
    """Products by the names of the operators fused into them; not by an addition of two products that nothing parts,
    which may run inside of either."""
    bare = {layer.name for layer in layers if layer.matrix and set(layer.fused_ops) <= {"BatchNormalization"}}
    return {
        name: layer
        for layer in layers
        if layer.matrix is not None and not ("Add" in layer.fused_ops and bare & set(layer.reads))
        for name in layer.fused
    }


def _first_known(following: Sequence[Mapping[str, str]], inside: Mapping[str, Layer]) -> Layer | None:
    for row in following:
        if not row["status"].endswith(NOT_RUN):
            return None
        if row["name"] in inside:
            return inside[row["name"]]
    return None


def _dtype(exec_type: str) -> str:
    """By the name of the kernel, such as `brgconv_avx512_f32`."""
    return next((dtype for mark, dtype in DTYPES.items() if mark in exec_type), "")


def _timed(layer: Layer, time_us: float, dtype: str) -> TimedLayer:
    size = BYTES.get(dtype, 4)
    moved = 0 if layer.matrix else (layer.inputs + layer.outputs) * size
    return TimedLayer(layer.name, layer.kind, time_us, layer.matrix, moved_bytes=moved, dtype=dtype)
