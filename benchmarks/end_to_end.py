"""Time whole networks with the native kernels against stock ONNX Runtime dense fp32, and weigh their memory.

    python -m benchmarks.end_to_end [--network resnet50]... [--threads 1,2] [--batch 1,8] [--passes 5] [--name NAME]

Both sides have the same seeded weights; the dense one has zeros in place. They take turns in which only one of them has
a session (see `crisp_onnx.runtime.turns`). All settings are measured in turn, and that several times over, since a
shared machine changes its mood for minutes: a virtual machine's cores may lose their common cache for as long, which
the distance between them shows, a cache line's way there and back. The row of a setting is its middle pass. Writes
results/NAME.json and a table.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.machine import built, core_distance_ns
from benchmarks.network import Sparsity
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime import session, which_kernel
from crisp_onnx.runtime.bench import compare

RESULTS = Path(__file__).parent / "results"
PATTERNS = {
    "V8 1/4": Sparsity(Pattern(2, 4, 16, 8), 0.25),
    "V4 1/4": Sparsity(Pattern(2, 4, 16, 4), 0.25),
    "V8 1/8": Sparsity(Pattern(2, 4, 16, 8), 0.125),
}
MEMORY_SCRIPT = """
import os, sys
from crisp_onnx.runtime import session
import numpy as np
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
s = session(sys.argv[1], threads=1)
s.run(None, {"x": np.zeros((1, 3, 224, 224), np.float32)})
print(resident() - before)
"""


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", "patterns", multiple=True, default=("V8 1/4",), type=click.Choice(list(PATTERNS)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--batch", default="1", show_default=True)
@click.option("--passes", default=5, show_default=True, help="Over all settings; an odd number.")
@click.option("--budget-s", default=3.0, show_default=True, help="Seconds a side and setting in each pass.")
@click.option("--name", default="end_to_end", show_default=True, help="Of the files in benchmarks/results.")
@click.option("--memory", is_flag=True, help="Also weigh a session of each side in a process of its own.")
def main(
    networks: tuple[str, ...],
    patterns: tuple[str, ...],
    threads: str,
    batch: str,
    passes: int,
    budget_s: float,
    name: str,
    memory: bool,
) -> None:
    """Measure, print and write the table."""
    counts, sizes = ([int(part) for part in text.split(",")] for text in (threads, batch))
    seen: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    program = built("core_distance")
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for i, (network, pattern) in enumerate(itertools.product(networks, patterns)):
            files[network, pattern] = _write(network, PATTERNS[pattern], Path(folder) / str(i))
        for number in range(passes):
            for (network, pattern), count, size in itertools.product(files, counts, sizes):
                kernel, apart = which_kernel(PATTERNS[pattern].pattern.vector_rows), core_distance_ns(program)
                for row in _measure(*files[network, pattern], count, size, budget_s):
                    key = (network, pattern, count, size, row["in_parts"])
                    about = {"network": network, "pattern": pattern, "kernel": kernel, "cores_apart_ns": apart}
                    seen.setdefault(key, []).append({**about, **row})
                    sys.stdout.write(f"{number + 1}: {_line(seen[key][-1])}\n")
        rows = [_middle(runs) for runs in seen.values()]
        if memory:
            for (network, pattern), pair in files.items():
                dense, hybrid = (_weigh(file) for file in pair)
                for row in rows:
                    if (row["network"], row["pattern"]) == (network, pattern):
                        row |= {"dense_bytes": dense, "hybrid_bytes": hybrid}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(_table(rows), encoding="utf-8")


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The pass of the middle ratio, with the ratios of all, and how far apart the cores were before each."""
    ordered = sorted(runs, key=lambda row: row["ratios"][1]["median"])
    passes = {
        "pass_ratios": [row["ratios"][1]["median"] for row in runs],
        "pass_cores_apart_ns": [row["cores_apart_ns"] for row in runs],
    }
    return {**ordered[len(ordered) // 2], **passes}


def _write(network: str, sparsity: Sparsity, folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    paths = folder / "dense.onnx", folder / "hybrid.onnx"
    for path, hybrid in zip(paths, (False, True), strict=True):
        onnx.save(
            TOPOLOGIES[network](sparsity, hybrid=hybrid), path, save_as_external_data=True, location=f"{path.stem}.data"
        )
    return paths


def _measure(dense: Path, hybrid: Path, threads: int, batch: int, budget_s: float) -> Iterator[dict[str, Any]]:
    """A row for every way of taking the batch (see `runtime.bench`), against the dense model's faster way."""
    error = _relative_error(dense, hybrid, threads, batch)
    for found in compare(hybrid, dense, threads=threads, batch=batch, budget_s=budget_s):
        ways = {"in_parts": found.in_parts, "dense_in_parts": found.against_in_parts}
        setting = {"threads": threads, "batch": batch, **ways, "relative_error": error}
        yield {**setting, **asdict(found.timing)}


def _relative_error(dense: Path, hybrid: Path, threads: int, batch: int) -> float:
    """Greatest difference over greatest answer, the kernels insisted on."""
    feed = {"x": np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)}
    expected = session(dense, native=False, threads=threads).run(None, feed)[0]
    answer = session(hybrid, native=True, threads=threads).run(None, feed)[0]
    return float(np.abs(answer - expected).max() / np.abs(expected).max())


def _table(rows: list[dict[str, Any]]) -> str:
    columns = ("network", "pattern", "threads", "batch", "dense ms", "ours ms", "times faster", "10 to 90 %")
    head = f"| {' | '.join(columns)} | all passes (cores apart, ns) | |\n"
    head += "|---|---|--:|--:|--:|--:|--:|--:|---|---|\n"
    table = head + "\n".join(map(_line, rows)) + "\n"
    weighed = {
        f"| {row['network']} | {row['pattern']} | {row['dense_bytes'] / 1e6:.0f} | {row['hybrid_bytes'] / 1e6:.0f} "
        f"| {row['hybrid_bytes'] / row['dense_bytes']:.2f} |\n": None
        for row in rows
        if "dense_bytes" in row
    }
    if not weighed:
        return table
    memory = "\nResident memory that a session and one run add to a process:\n\n"
    return (
        table
        + memory
        + "| network | pattern | dense MB | ours MB | of the dense |\n|---|---|--:|--:|--:|\n"
        + "".join(weighed)
    )


def _line(row: dict[str, Any]) -> str:
    dense, ours = (side["median"] for side in row["sides_ms"])
    ratio = row["ratios"][1]
    batch = f"{row['batch']}{', in parts' if row['in_parts'] else ''}"
    spread = f"{ratio['p10']:.2f} to {ratio['p90']:.2f}"
    pairs = zip(row.get("pass_ratios", ()), row.get("pass_cores_apart_ns", ()), strict=True)
    passes = ", ".join(f"{found:.2f} ({apart:.0f})" for found, apart in pairs)
    return (
        f"| {row['network']} | {row['pattern']} | {row['threads']} | {batch} | {dense:.2f} | {ours:.2f} "
        f"| {ratio['median']:.2f} | {spread} | {passes} | {'noisy' if row['noisy'] else ''} |"
    )


def _weigh(model: Path) -> int:
    """Resident bytes that a session and one run add to a fresh process."""
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(model)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
