"""Write a benchmark's rows as JSON and as a Markdown table beside each other in benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def record(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, object]],
    *,
    notes: Sequence[str] = (),
    raw: Mapping[str, object] | None = None,
) -> None:
    """Write `results/<name>.json` and `results/<name>.md`; the table's columns are the keys of the first row.

    `raw`: what the rows were made of, by key, kept in the JSON for a program that goes on where it was stopped.
    """
    RESULTS.mkdir(exist_ok=True)
    machine = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    document: dict[str, object] = {"title": title, "machine": machine, "rows": list(rows), "notes": list(notes)}
    if raw is not None:
        document["raw"] = dict(raw)
    _replace(RESULTS / f"{name}.json", json.dumps(document, indent=1) + "\n")
    table = _table(rows)
    lines = [f"# {title}", "", f"{machine['processor']}, {machine['cores']} cores.", "", *table, ""]
    lines += [f"- {note}" for note in notes]
    _replace(RESULTS / f"{name}.md", "\n".join(lines).rstrip() + "\n")
    print("\n".join(table))


def card(device: str) -> str | None:
    """The name of the GPU of torch's `device`; None: it is the processor."""
    import torch  # some benchmarks do without

    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None


def _replace(path: Path, text: str) -> None:
    """Write in one step: whoever stops the program leaves the old file or the new one."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


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
