"""Time whole networks with the native kernels against stock ONNX Runtime dense fp32, and weigh their memory.

    python -m benchmarks.end_to_end [--network resnet50]... [--precision fp32,int8] [--threads 1,2] [--batch 1,8]
                                    [--passes 5] [--name NAME] [--memory]

All sides have the same seeded weights; the dense one has zeros in place. In int8 the network is also timed against the
dense one as ONNX Runtime's own quantiser writes it. Two sides take turns in which only one of them has a session (see
`crisp_onnx.runtime.turns`). All settings are measured in turn, and that several times over, since a
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
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.forms import FORMS, Form, write_forms
from benchmarks.network import Sparsity
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime import session, which_kernel
from crisp_onnx.runtime.bench import compare
from crisp_onnx.runtime.library import Element, core_distance_ns

RESULTS = Path(__file__).parent / "results"
PATTERNS = {
    "V8 1/4": Sparsity(Pattern(2, 4, 16, 8), 0.25),
    "V4 1/4": Sparsity(Pattern(2, 4, 16, 4), 0.25),
    "V8 1/2": Sparsity(Pattern(2, 4, 16, 8), 0.5),
    "V8 1/8": Sparsity(Pattern(2, 4, 16, 8), 0.125),
}
OURS: dict[str, tuple[Form, Element]] = {"fp32": ("hybrid", "float32"), "int8": ("hybrid-int8", "int8")}
"""By precision: the file, and the element of its kernels."""
Files = dict[Form, Path]
MEMORY_SCRIPT = """
import os, sys
from crisp_onnx.runtime import session
import numpy as np
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
x = np.ones((1, 3, 224, 224), np.float32)
before = resident()
s = session(sys.argv[1], threads=1)
for _ in range(3):  # the second run may lay its memory out anew
    s.run(None, {"x": x})
print(resident() - before)
"""


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", "patterns", multiple=True, default=("V8 1/4",), type=click.Choice(list(PATTERNS)))
@click.option("--precision", default="fp32,int8", show_default=True)
@click.option("--threads", default="1,2", show_default=True)
@click.option("--batch", default="1", show_default=True)
@click.option(
    "--passes", default=5, show_default=True, help="Over all settings; an odd number, or 0 for --memory alone."
)
@click.option("--budget-s", default=3.0, show_default=True, help="Seconds a side and setting in each pass.")
@click.option("--name", default="end_to_end", show_default=True, help="Of the files in benchmarks/results.")
@click.option("--memory", is_flag=True, help="Also weigh a session of each side in a process of its own.")
def main(
    networks: tuple[str, ...],
    patterns: tuple[str, ...],
    precision: str,
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
    with tempfile.TemporaryDirectory() as folder:
        files: dict[tuple[str, str], Files] = {}
        for i, (network, pattern) in enumerate(itertools.product(networks, patterns)):
            (own := Path(folder) / str(i)).mkdir()
            files[network, pattern] = write_forms(network, PATTERNS[pattern], own)
        settings = list(itertools.product(files, precision.split(","), counts, sizes))
        for number in range(passes):
            for (network, pattern), ours, count, size in settings:
                form, element = OURS[ours]
                kernel = which_kernel(PATTERNS[pattern].pattern.vector_rows, element=element)
                about = {"network": network, "pattern": pattern, "precision": ours, "kernel": kernel}
                about["cores_apart_ns"] = core_distance_ns(2) or 0.0
                for row in _measure(files[network, pattern], form, count, size, budget_s):
                    key = (network, pattern, ours, count, size, row["in_parts"])
                    seen.setdefault(key, []).append({**about, **row})
                    sys.stdout.write(f"{number + 1}: {_line(seen[key][-1])}\n")
                    sys.stdout.flush()
        rows = [_middle(runs) for runs in seen.values()]
        weights = [_weighed(*setting, forms) for setting, forms in files.items()] if memory else []
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"times": rows, "memory": weights}, indent=1) + "\n", encoding="utf-8"
    )
    (RESULTS / f"{name}.md").write_text(
        "\n".join(filter(None, (_table(rows), _memory_table(weights)))), encoding="utf-8"
    )


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The pass of the middle ratio, with the ratios of all, and how far apart the cores were before each."""
    ordered = sorted(runs, key=lambda row: row["ratios"][1]["median"])
    passes = {
        "pass_ratios": [row["ratios"][1]["median"] for row in runs],
        "pass_cores_apart_ns": [row["cores_apart_ns"] for row in runs],
    }
    return {**ordered[len(ordered) // 2], **passes}


def _measure(files: Files, form: Form, threads: int, batch: int, budget_s: float) -> Iterator[dict[str, Any]]:
    """A row for every way of taking the batch (see `runtime.bench`), against the dense model's faster way."""
    error = _relative_error(files["dense"], files[form], threads, batch)
    measured = partial(compare, files[form], threads=threads, batch=batch, budget_s=budget_s)
    found = measured(files["dense"])
    quantised = measured(files["dense-int8"]) if form == "hybrid-int8" else ()
    for way, theirs in itertools.zip_longest(found, quantised):
        ways = {"in_parts": way.in_parts, "dense_in_parts": way.against_in_parts}
        row = {"threads": threads, "batch": batch, **ways, "relative_error": error, **asdict(way.timing)}
        yield row if theirs is None else row | {"against_int8": asdict(theirs.timing)}


def _relative_error(dense: Path, hybrid: Path, threads: int, batch: int) -> float:
    """Greatest difference over greatest answer, the kernels insisted on."""
    feed = {"x": np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)}
    expected = session(dense, native=False, threads=threads).run(None, feed)[0]
    answer = session(hybrid, native=True, threads=threads).run(None, feed)[0]
    return float(np.abs(answer - expected).max() / np.abs(expected).max())


def _weighed(network: str, pattern: str, files: Files) -> dict[str, Any]:
    """What each form adds to a process, in bytes."""
    return {"network": network, "pattern": pattern} | {form: _weigh(files[form]) for form in FORMS}


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    columns = ("network", "pattern", "ours in", "threads", "batch", "dense ms", "ours ms", "times faster")
    head = f"| {' | '.join(columns)} | 10 to 90 % | all passes (cores apart, ns) | dense int8 ms | times faster | |\n"
    return head + "|---|---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|---|\n" + "\n".join(map(_line, rows)) + "\n"


def _line(row: dict[str, Any]) -> str:
    dense, ours = (side["median"] for side in row["sides_ms"])
    ratio = row["ratios"][1]
    batch = f"{row['batch']}{', in parts' if row['in_parts'] else ''}"
    spread = f"{ratio['p10']:.2f} to {ratio['p90']:.2f}"
    pairs = zip(row.get("pass_ratios", ()), row.get("pass_cores_apart_ns", ()), strict=True)
    passes = ", ".join(f"{found:.2f} ({apart:.0f})" for found, apart in pairs)
    int8 = row.get("against_int8")
    theirs = f"{int8['sides_ms'][0]['median']:.2f} | {int8['ratios'][1]['median']:.2f}" if int8 else "|"
    return (
        f"| {row['network']} | {row['pattern']} | {row['precision']} | {row['threads']} | {batch} | {dense:.2f} "
        f"| {ours:.2f} | {ratio['median']:.2f} | {spread} | {passes} | {theirs} | {'noisy' if row['noisy'] else ''} |"
    )


def _memory_table(weights: list[dict[str, Any]]) -> str:
    if not weights:
        return ""
    head = "Resident memory that a session and its first three runs add to a process:\n\n"
    head += "| network | pattern | dense MB | dense int8 MB | ours MB | of the dense | ours int8 MB | of the dense |\n"
    lines = [
        f"| {row['network']} | {row['pattern']} | {row['dense'] / 1e6:.0f} | {row['dense-int8'] / 1e6:.0f} "
        f"| {row['hybrid'] / 1e6:.0f} | {row['hybrid'] / row['dense']:.2f} "
        f"| {row['hybrid-int8'] / 1e6:.1f} | {row['hybrid-int8'] / row['dense']:.3f} |\n"
        for row in weights
    ]
    return head + "|---|---|--:|--:|--:|--:|--:|--:|\n" + "".join(lines)


def _weigh(model: Path) -> int:
    """Resident bytes that a session and its first three runs add to a fresh process."""
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(model)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
