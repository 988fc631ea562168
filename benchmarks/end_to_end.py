"""Time whole networks with the native kernels against stock ONNX Runtime dense fp32, and weigh their memory.

    python -m benchmarks.end_to_end [--network resnet50]... [--threads 1,2] [--batch 1,8] [--name NAME] [--memory]

Both sides have the same seeded weights; the dense one has zeros in place. Writes results/NAME.json and a table.
"""

from __future__ import annotations

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

from benchmarks.network import Sparsity
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.masks.pattern import Pattern
from crisp_onnx.runtime import session, which_kernel
from crisp_onnx.runtime.bench import compare

RESULTS = Path(__file__).parent / "results"
PATTERNS = {
    "V8 1/4": Sparsity(Pattern(2, 4, 16, 8), 0.25),
    "V4 1/4": Sparsity(Pattern(2, 4, 16, 4), 0.25),
    "V8 1/8": Sparsity(Pattern(2, 4, 16, 8), 0.125),
}
MEMORY_SCRIPT = """
import sys, psutil
from crisp_onnx.runtime import session
import numpy as np
before = psutil.Process().memory_info().rss
s = session(sys.argv[1], threads=1)
s.run(None, {"x": np.zeros((1, 3, 224, 224), np.float32)})
print(psutil.Process().memory_info().rss - before)
"""


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", "patterns", multiple=True, default=("V8 1/4",), type=click.Choice(list(PATTERNS)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--batch", default="1", show_default=True)
@click.option("--budget-s", default=4.0, show_default=True, help="Seconds a side and setting.")
@click.option("--name", default="end_to_end", show_default=True, help="Of the files in benchmarks/results.")
@click.option("--memory", is_flag=True, help="Also weigh a session of each side in a process of its own.")
def main(
    networks: tuple[str, ...],
    patterns: tuple[str, ...],
    threads: str,
    batch: str,
    budget_s: float,
    name: str,
    memory: bool,
) -> None:
    """Measure, print and write the table."""
    rows = []
    for network in networks:
        for pattern in patterns:
            with tempfile.TemporaryDirectory() as folder:
                dense, hybrid = _write(network, PATTERNS[pattern], Path(folder))
                for count in map(int, threads.split(",")):
                    for size in map(int, batch.split(",")):
                        for measured in _measure(dense, hybrid, count, size, budget_s):
                            rows.append({"network": network, "pattern": pattern, **measured})
                            sys.stdout.write(_line(rows[-1]) + "\n")
                if memory:
                    rows[-1] |= {"dense_bytes": _weigh(dense), "hybrid_bytes": _weigh(hybrid)}
                    share = rows[-1]["hybrid_bytes"] / rows[-1]["dense_bytes"]
                    sys.stdout.write(f"a session's memory is {share:.2f} of the dense one's\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    head = "| network | pattern | threads | batch | dense ms | ours ms | times faster | 10 to 90 % | |\n"
    head += "|---|---|--:|--:|--:|--:|--:|--:|---|\n"
    (RESULTS / f"{name}.md").write_text(head + "\n".join(map(_line, rows)) + "\n", encoding="utf-8")


def _write(network: str, sparsity: Sparsity, folder: Path) -> tuple[Path, Path]:
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
        setting = {"threads": threads, "batch": batch, **ways, "kernel": which_kernel(), "relative_error": error}
        yield {**setting, **asdict(found.timing)}


def _relative_error(dense: Path, hybrid: Path, threads: int, batch: int) -> float:
    """Greatest difference over greatest answer, the kernels insisted on."""
    feed = {"x": np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)}
    expected = session(dense, native=False, threads=threads).run(None, feed)[0]
    answer = session(hybrid, native=True, threads=threads).run(None, feed)[0]
    return float(np.abs(answer - expected).max() / np.abs(expected).max())


def _line(row: dict[str, Any]) -> str:
    dense, ours = (side["median"] for side in row["sides_ms"])
    ratio = row["ratios"][1]
    batch = f"{row['batch']}{', in parts' if row['in_parts'] else ''}"
    spread = f"{ratio['p10']:.2f} to {ratio['p90']:.2f}"
    return (
        f"| {row['network']} | {row['pattern']} | {row['threads']} | {batch} | {dense:.2f} | {ours:.2f} "
        f"| {ratio['median']:.2f} | {spread} | {'noisy' if row['noisy'] else ''} |"
    )


def _weigh(model: Path) -> int:
    """Resident bytes that a session and one run add to a fresh process."""
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(model)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
