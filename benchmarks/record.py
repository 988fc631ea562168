"""Write a benchmark's rows as JSON and as a Markdown table beside each other in benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def record(name: str, title: str, rows: Sequence[Mapping[str, object]], *, notes: Sequence[str] = ()) -> None:
    """Write `results/<name>.json` and `results/<name>.md`; the table's columns are the keys of the first row."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    document = {"title": title, "machine": machine, "rows": list(rows), "notes": list(notes)}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    table = _table(rows)
    lines = [f"# {title}", "", f"{machine['processor']}, {machine['cores']} cores.", "", *table, ""]
    lines += [f"- {note}" for note in notes]
    (RESULTS / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(table))


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    columns = list(rows[0])
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    head = f"| {' | '.join(columns)} |"
    return [head, "|" + "---|" * len(columns), *(f"| {' | '.join(row)} |" for row in cells)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-2 and value else f"{value:.4g}"
    return "" if value is None else str(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
