"""Vela's CSV files: a row a layer, or a row a network."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import isfinite

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer


def is_layers(header: str) -> bool:
    return "NNG Operator" in header and "MAC Count" in header


def is_summary(header: str) -> bool:
    return "nn_macs" in header and "cycles_total" in header


def read_layers(text: str, clock_hz: float) -> Profile:
    """`<network>_per-layer.csv` of `vela --verbose-performance`; cycles are of `clock_hz`."""
    rows = table_rows(text)
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


def read_summary(text: str) -> Profile:
    """`<network>_summary_<system>.csv`, one network a row.

    Their whole times are sums over layers of whatever took longest there, so that only memory's cycles tell a rate.
    """
    rows = [row for row in table_rows(text) if row.get("nn_macs") != "nn_macs"]  # where tables were joined by hand
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


def table_rows(text: str) -> list[dict[str, str]]:
    """The rows of a table; programs of some countries save it with semicolons and decimal commas, others with tabs."""
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in (";", "\t") if mark in header), ",")
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def number_of(text: str) -> float:
    """A number with a point or, where it has no point, one decimal comma: no tool groups digits by thousands."""
    return float(text if "." in text else text.replace(",", ".", 1))


def _count(row: Mapping[str, str], column: str) -> float:
    """What a column counts.

    Raises:
        ValueError: no such column, or a number that counts nothing: negative, infinite or none.
    """
    if row.get(column) is None:
        raise ValueError(f"column {column!r} is missing")
    found = number_of(row[column])
    if not (isfinite(found) and found >= 0):
        raise ValueError(f"column {column!r} holds {row[column]}, which counts nothing")
    return found
