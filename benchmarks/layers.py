"""Every layer that the never-slower rule emits as sparse, in its running network, against the same layer run dense.

python -m benchmarks.layers [--network resnet50 ...] [--threads 1,2]

Both networks run in turn under ONNX Runtime's profiler. Here a layer meets the caches and the threads that its
neighbours leave it, as it does in service; `crisp-onnx bench --per-layer` measures layers alone, where a second thread
must first be woken.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.end_to_end import PATTERNS
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.model import load
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.latency import timing_options
from crisp_onnx.runtime.layer_times import REORDERS, node_runs
from crisp_onnx.runtime.never_slower import judge_layers

RESULTS = Path(__file__).parent / "results"
LAYER = re.compile(r"(conv|fc)\d+")
CONVERSIONS = "layout conversions"
WARMUP = 5
WORST = 3
HEAD = """\
| network | threads | sparse layers | times faster: least | median | most | gain least | conversions, ms (dense) |
|---|--:|--:|--:|--:|--:|---|---|
"""


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", default="V8 1/4", show_default=True, type=click.Choice(list(PATTERNS)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--rounds", default=60, show_default=True)
def main(networks: tuple[str, ...], pattern: str, threads: str, rounds: int) -> None:
    """Measure, print and write the table."""
    rows = []
    for network in networks:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for form, hybrid in (("dense", False), ("hybrid", True)):
                model = TOPOLOGIES[network](PATTERNS[pattern], hybrid=hybrid)
                onnx.save(model, folder / form, save_as_external_data=True, location=f"{form}.data")
            slower = judge_layers(load(folder / "hybrid")).slower
            rows += [_row(network, folder, count, rounds, slower) for count in map(int, threads.split(","))]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "layers.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    table = HEAD + "\n".join(map(_line, rows)) + "\n"
    (RESULTS / "layers.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)


def _row(network: str, folder: Path, threads: int, rounds: int, slower: dict[str, str]) -> dict[str, Any]:
    sessions = [_profiled(folder / "dense", threads, native=False), _profiled(folder / "hybrid", threads, native=True)]
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)}
    for _ in range(WARMUP + rounds):
        for opened in sessions:
            opened.run(None, feed)
    dense, hybrid = (_layer_ms(Path(opened.end_profiling())) for opened in sessions)
    nodes = onnx.load(folder / "hybrid", load_external_data=False).graph.node
    names = [node.name for node in nodes if node.domain and node.name not in slower]
    layers = [
        {"name": name, "dense_ms": dense[name], "sparse_ms": hybrid[name], "times_faster": dense[name] / hybrid[name]}
        for name in names
    ]
    conversions = {"dense_ms": dense[CONVERSIONS], "hybrid_ms": hybrid[CONVERSIONS]}
    return {"network": network, "threads": threads, "layers": layers, CONVERSIONS: conversions}


def _profiled(path: Path, threads: int, *, native: bool) -> ort.InferenceSession:
    options = timing_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_name(f"profile_{path.name}_{threads}"))
    if native:
        options.register_custom_ops_library(str(library_path()))
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _layer_ms(profile: Path) -> defaultdict[str, float]:
    """Layer -> median milliseconds of all that runs under its name."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, op, ms in node_runs(profile):
        found = LAYER.search(name)
        times[CONVERSIONS if op in REORDERS else found[0] if found else "others", name].append(ms)
    total: defaultdict[str, float] = defaultdict(float)
    for (layer, _), durations in times.items():
        total[layer] += float(np.median(durations[WARMUP:]))
    return total


def _line(row: dict[str, Any]) -> str:
    ranked = sorted(row["layers"], key=lambda layer: layer["times_faster"])
    gains = [layer["times_faster"] for layer in ranked]
    worst = ", ".join(f"{layer['name']} {layer['times_faster']:.2f}" for layer in ranked[:WORST])
    conversions = f"{row[CONVERSIONS]['hybrid_ms']:.2f} ({row[CONVERSIONS]['dense_ms']:.2f})"
    return (
        f"| {row['network']} | {row['threads']} | {len(gains)} | {gains[0]:.2f} | {np.median(gains):.2f} | "
        f"{gains[-1]:.2f} | {worst} | {conversions} |"
    )


if __name__ == "__main__":
    main()
