"""Time ours against other runtimes on the same networks, all sides in turn. See README.md.

python -m benchmarks.peers.run [--network resnet50 --network vgg16 ...] [--threads 1,2] [--budget-s 6]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
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
from crisp_onnx.runtime.library import core_distance_ns
from crisp_onnx.runtime.turns import Times, take_turns

RESULTS = Path(__file__).parents[1] / "results"
WORKER = Path(__file__).with_name("worker.py")
SIDES = MappingProxyType(
    {  # side: runtime, form of the model
        "ours-fp32": ("ours", "hybrid"),
        "ours-int8": ("ours", "hybrid-int8"),
        "onnxruntime-fp32": ("onnxruntime", "dense"),
        "onnxruntime-int8": ("onnxruntime", "dense-int8"),
        "openvino-fp32": ("openvino", "dense"),
        "openvino-int8": ("openvino", "dense-int8"),
        "deepsparse-fp32": ("deepsparse", "unstructured"),
        "deepsparse-int8": ("deepsparse", "unstructured-int8"),
    }
)
BLOCK_SHARES = MappingProxyType({"vit_s16": 0.5})
"""Of the blocks, that a network keeps; a quarter where it is not named."""
OURS = ("ours-fp32", "ours-int8")
HEAD = """\
| network | threads | side | ms | ours in fp32 is faster by | 10 to 90 % | ours in int8 is faster by | 10 to 90 % | \
cores apart, ns |
|---|--:|---|--:|--:|--:|--:|--:|--:|
"""


@dataclass(frozen=True)
class Row:
    """One network at one thread count. `rounds`: the times of `sides` in every round; `missing`: side -> reason.

    `cores_apart_ns`: a cache line's way between the cores and back, before the rounds and after them.
    """

    network: str
    threads: int
    sides: tuple[str, ...]
    rounds: list[tuple[Times, ...]]
    missing: dict[str, str]
    cores_apart_ns: tuple[float, float]

    def against(self, side: str) -> Timing:
        """What the rounds say; its ratios are the time of `side` over that of each side."""
        place = self.sides.index(side)
        found = summarize([(turns[place], *turns) for turns in self.rounds])
        return replace(found, sides_ms=found.sides_ms[1:], ratios=found.ratios[1:])


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--budget-s", default=6.0, show_default=True, help="Seconds a side.")
@click.option("--name", default="peers", show_default=True, help="Of the files in benchmarks/results.")
def main(networks: tuple[str, ...], threads: str, budget_s: float, name: str) -> None:
    """Measure, print and write table and plot."""
    rows = []
    for network in networks:
        sparsity = Sparsity(Pattern(), BLOCK_SHARES.get(network, 0.25))
        with tempfile.TemporaryDirectory() as folder:
            models = write_models(network, sparsity, Path(folder))
            rows += [_compare(network, models, count, budget_s) for count in map(int, threads.split(","))]
    table = HEAD + "\n".join(line for row in rows for line in _lines(row)) + "\n"
    document = json.dumps([_document(row) for row in rows], indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(document, encoding="utf-8")
    _plot(rows, RESULTS / f"{name}.svg")
    sys.stdout.write(table)


def _compare(network: str, models: dict[str, Path], threads: int, budget_s: float) -> Row:
    workers: dict[str, subprocess.Popen[str]] = {}
    missing = {}
    for side, (runtime, form) in SIDES.items():
        try:
            workers[side] = _start(python_of(runtime), runtime, models[form], threads)
        except Unavailable as error:
            missing[side] = str(error)
    try:
        before_ns = core_distance_ns(2) or 0.0
        rounds = take_turns([partial(_turn, worker) for worker in workers.values()], budget_s=budget_s)
        apart_ns = before_ns, core_distance_ns(2) or 0.0
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return Row(network, threads, tuple(workers), rounds, missing, apart_ns)


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
    timings = [row.against(side) for side in OURS]
    apart = " and ".join(f"{ns:.0f}" for ns in row.cores_apart_ns)
    lines = []
    for place, side in enumerate(row.sides):
        # A ratio is ours over the side; its inverse is what ours gains.
        ratios = [timing.ratios[place] for timing in timings]
        gains = " | ".join(f"{1 / r.median:.2f} | {1 / r.p90:.2f} to {1 / r.p10:.2f}" for r in ratios)
        lines.append(
            f"| {row.network} | {row.threads} | {side} | {timings[0].sides_ms[place].median:.2f} | {gains} | {apart} |"
        )
    lines += [
        f"| {row.network} | {row.threads} | {side} | not measured: {why} | | | | | |"
        for side, why in row.missing.items()
    ]
    return lines


def _document(row: Row) -> dict[str, object]:
    timings = {side: row.against(side) for side in OURS}
    spreads = timings[OURS[0]].sides_ms
    gains = {
        ours: {side: 1 / ratio.median for side, ratio in zip(row.sides, timing.ratios, strict=True)}
        for ours, timing in timings.items()
    }
    return {
        "network": row.network,
        "threads": row.threads,
        "median_ms": {side: spread.median for side, spread in zip(row.sides, spreads, strict=True)},
        "times_faster": gains,
        "noisy": [ours for ours, timing in timings.items() if timing.noisy],
        "missing": row.missing,
        "cores_apart_ns": row.cores_apart_ns,
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
        axis.barh(row.sides, [spread.median for spread in row.against(OURS[0]).sides_ms])
        axis.invert_yaxis()
        axis.set_title(f"{row.network}, {row.threads} {'thread' if row.threads == 1 else 'threads'}")
        axis.set_xlabel("milliseconds an image")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
