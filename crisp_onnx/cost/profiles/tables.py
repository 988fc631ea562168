"""Tables of compilers and runtimes: Vela's CSV files, and the counters of OpenVINO's `benchmark_app`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import Layer


def is_vela_layers(header: str) -> bool:
    return "NNG Operator" in header and "MAC Count" in header


def is_vela_summary(header: str) -> bool:
    return "nn_macs" in header and "cycles_total" in header


def is_openvino(header: str) -> bool:
    return header.startswith("layerName;") and "realTime" in header


def read_vela_layers(text: str, clock_hz: float) -> Profile:
    """`<network>_per-layer.csv` of `vela --verbose-performance`; cycles are of `clock_hz`."""
    rows = _rows(text)
    found = [
        TimedLayer(
            row["Name"] or row["NNG Operator"],
            "elementwise",
            1e6 * _count(row, "Op Cycles") / clock_hz,
            array_us=1e6 * max(_count(row, column) for column in ("NPU", "SRAM AC", "OnFlash AC")) / clock_hz,
            memory_us=1e6 * (_count(row, "DRAM AC") + _count(row, "OffFlash AC")) / clock_hz,
        )
        for row in _sound(rows, "MAC Count")
        if _count(row, "Op Cycles")
    ]
    return Profile("Vela", tuple(found), len(rows) - len(found), design="ethos_u")


def read_vela_summary(text: str) -> Profile:
    """`<network>_summary_<system>.csv`, one network a row: several files may stand one after the other.

    Their whole times are sums over layers of whatever took longest there, so that only memory's cycles tell a rate.
    """
    rows = [row for row in _rows(text) if row.get("nn_macs") != "nn_macs"]
    found = [
        TimedLayer(
            row["network"],
            "elementwise",
            1e6 * cycles / _count(row, "core_clock"),
            moved_bytes=int(_count(row, "dram_total_bytes") + _count(row, "off_chip_flash_total_bytes")),
            dtype="int8",
        )
        for row in _sound(rows, "nn_macs", above=("cycles_total", "core_clock"))
        if (cycles := _count(row, "cycles_dram_access") + _count(row, "cycles_off_chip_flash_access"))
    ]
    return Profile("Vela", tuple(found), len(rows) - len(found), design="ethos_u", of_networks=True)


def read_openvino(text: str, layers: Iterable[Layer]) -> Profile:
    """`benchmark_app -report_type detailed_counters`: times by layer name; `layers`: of the model, for their shapes.

    Raises:
        CrispError: no layer of the table has the name of one of the model.
    """
    known = {layer.name: layer for layer in layers}
    rows = [row for row in _rows(text) if row.get("execStatus") != "NOT_RUN"]
    found = []
    for row in rows:
        name = (row.get("layerName") or "").removesuffix("/WithoutBiases")
        layer, time_ms = known.get(name), _number(row.get("realTime (ms)") or "0")
        if layer is not None and time_ms > 0:
            dtype = "int8" if "i8" in (row.get("execType") or "").lower() else ""
            found.append(_of_model(layer, 1e3 * time_ms, dtype))
    if not found:
        raise CrispError(
            "No layer of the profile has the name of a layer of the model. Give the --model that was measured."
        )
    return Profile("OpenVINO", tuple(found), len(rows) - len(found))


def _sound(rows: Sequence[Mapping[str, str]], *columns: str, above: Sequence[str] = ()) -> Sequence[Mapping[str, str]]:
    """The rows, whose `columns` count something. `above`: columns that are above 0.

    Raises:
        ValueError: they do not, as in a damaged file.
    """
    for row in rows:
        for column in (*columns, *above):
            if not _count(row, column) and column in above:
                raise ValueError(f"column {column!r} holds {row[column]}, and nothing runs in no time")
    return rows


def _rows(text: str) -> list[dict[str, str]]:
    """The rows of a table; programs of some countries save it with semicolons and decimal commas."""
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def _number(text: str) -> float:
    """A number with a point or, where it has no point, one decimal comma: no tool groups digits by thousands."""
    return float(text if "." in text else text.replace(",", ".", 1))


def _count(row: Mapping[str, str], column: str) -> float:
    """What a column counts.

    Raises:
        ValueError: no such column, or a number that counts nothing: negative, infinite or none.
    """
    if row.get(column) is None:
        raise ValueError(f"column {column!r} is missing")
    found = _number(row[column])
    if not (isfinite(found) and found >= 0):
        raise ValueError(f"column {column!r} holds {row[column]}, which counts nothing")
    return found


def _of_model(layer: Layer, time_us: float, dtype: str) -> TimedLayer:
    size = 1 if dtype == "int8" else 4
    moved = 0 if layer.matrix else (layer.inputs + layer.outputs) * size
    return TimedLayer(layer.name, layer.kind, time_us, layer.matrix, moved_bytes=moved, dtype=dtype)
