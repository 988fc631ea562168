"""Time ours against other runtimes on the same networks, all sides in turn. See README.md.

python -m benchmarks.peers.run [--network resnet50 --network vgg16 ...] [--threads 1,2] [--budget-s 6]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import click
import numpy as np

from benchmarks.network import Sparsity
from benchmarks.peers.environments import Unavailable, python_of
from benchmarks.peers.models import write_models
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime.latency import Timing, summarize
from crisp_onnx.runtime.turns import Times, take_turns

RESULTS = Path(__file__).parents[1] / "results"
WORKER = Path(__file__).with_name("worker.py")
SIDES = MappingProxyType(
    {  # side: runtime, form of the model
        "ours": ("ours", "hybrid"),
        "onnxruntime-fp32": ("onnxruntime", "dense"),
        "onnxruntime-int8": ("onnxruntime", "int8"),
        "openvino-fp32": ("openvino", "dense"),
        "openvino-int8": ("openvino", "int8"),
        "deepsparse": ("deepsparse", "unstructured"),
    }
)


@dataclass(frozen=True)
class Row:
    """One network at one thread count. `timing`: its sides are `sides`, ours first; `missing`: side -> reason."""

    network: str
    threads: int
    sides: tuple[str, ...]
    timing: Timing
    missing: dict[str, str]


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--budget-s", default=6.0, show_default=True, help="Seconds a side.")
def main(networks: tuple[str, ...], threads: str, budget_s: float) -> None:
    """Measure, print and write table and plot."""
    sparsity = Sparsity(Pattern(), 0.25)
    rows = []
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            models = write_models(network, sparsity, Path(folder))
            rows += [_compare(network, models, count, budget_s) for count in map(int, threads.split(","))]
    table = "\n".join(line for row in rows for line in _lines(row)) + "\n"
    head = "| network | threads | side | ms | ours is faster by | 10 to 90 % |\n|---|--:|---|--:|--:|--:|\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.md").write_text(head + table, encoding="utf-8")
    (RESULTS / "peers.json").write_text(json.dumps([_document(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    _plot(rows, RESULTS / "peers.svg")
    sys.stdout.write(head + table)


def _compare(network: str, models: dict[str, Path], threads: int, budget_s: float) -> Row:
    workers: dict[str, subprocess.Popen[str]] = {}
    missing = {}
    for side, (runtime, form) in SIDES.items():
        try:
            workers[side] = _start(python_of(runtime), runtime, models[form], threads)
        except Unavailable as error:
            missing[side] = str(error)
    try:
        rounds = take_turns([partial(_turn, worker) for worker in workers.values()], budget_s=budget_s)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return Row(network, threads, tuple(workers), summarize(rounds), missing)


def _start(python: Path, runtime: str, model: Path, threads: int) -> subprocess.Popen[str]:
    command = [str(python), str(WORKER), runtime, str(model), str(threads)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stderr is not None
    for line in worker.stdout:
        if line.strip() == "ready":
            worker.send_signal(signal.SIGSTOP)
            return worker
    raise Unavailable((worker.stderr.read().strip().splitlines() or ["its worker ended without a word"])[-1])


def _turn(worker: subprocess.Popen[str], seconds: float) -> Times:
    """Milliseconds of the worker's runs. It is stopped between turns: threads that spin would take others' cores."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.send_signal(signal.SIGCONT)
    worker.stdin.write(f"{seconds}\n")
    worker.stdin.flush()
    times = json.loads(worker.stdout.readline())
    worker.send_signal(signal.SIGSTOP)
    return np.array(times)


def _lines(row: Row) -> list[str]:
    lines = []
    for side, spread, ratio in zip(row.sides, row.timing.sides_ms, row.timing.ratios, strict=True):
        # A ratio is ours over the side; its inverse is what ours gains.
        low, high = 1 / ratio.p90, 1 / ratio.p10
        gain = f"{1 / ratio.median:.2f} | {low:.2f} to {high:.2f}"
        lines.append(f"| {row.network} | {row.threads} | {side} | {spread.median:.2f} | {gain} |")
    lines += [
        f"| {row.network} | {row.threads} | {side} | not measured: {why} | | |" for side, why in row.missing.items()
    ]
    return lines


def _document(row: Row) -> dict[str, object]:
    medians = {side: spread.median for side, spread in zip(row.sides, row.timing.sides_ms, strict=True)}
    return {
        "network": row.network,
        "threads": row.threads,
        "median_ms": medians,
        "noisy": row.timing.noisy,
        "missing": row.missing,
    }


def _plot(rows: list[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    networks = list(dict.fromkeys(row.network for row in rows))
    columns = len(rows) // len(networks)
    size = (4.5 * columns, 2.6 * len(networks))
    figure, axes = pyplot.subplots(len(networks), columns, figsize=size, squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=True):
        axis.barh(row.sides, [spread.median for spread in row.timing.sides_ms])
        axis.invert_yaxis()
        axis.set_title(f"{row.network}, {row.threads} {'thread' if row.threads == 1 else 'threads'}")
        axis.set_xlabel("milliseconds an image")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
