"""Every layer that the never-slower rule emits as sparse, in its running network, against the same layer run dense.

python -m benchmarks.layers [--network resnet50 ...] [--threads 1,2]

Both networks run in turn under ONNX Runtime's profiler, only one of them alive at a time. Here a layer meets the caches
and the threads that its neighbours leave it, as it does in service; `crisp-onnx bench --per-layer` measures layers
alone.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.end_to_end import PATTERNS
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.model import load
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.layer_times import REORDERS
from crisp_onnx.runtime.never_slower import judge_layers
from crisp_onnx.runtime.profiled import profile_nodes
from crisp_onnx.runtime.turns import take_turns

RESULTS = Path(__file__).parent / "results"
LAYER = re.compile(r"(conv|fc)\d+")
CONVERSIONS = "layout conversions"
WORST = 3
HEAD = """\
| network | threads | sparse layers | times faster: least | median | most | gain least | conversions, ms (dense) |
|---|--:|--:|--:|--:|--:|---|---|
"""


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", default="V8 1/4", show_default=True, type=click.Choice(list(PATTERNS)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--budget-s", default=6.0, show_default=True, help="Seconds a side.")
def main(networks: tuple[str, ...], pattern: str, threads: str, budget_s: float) -> None:
    """Measure, print and write the table."""
    rows = []
    for network in networks:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for form, hybrid in (("dense", False), ("hybrid", True)):
                model = TOPOLOGIES[network](PATTERNS[pattern], hybrid=hybrid)
                onnx.save(model, folder / form, save_as_external_data=True, location=f"{form}.data")
            slower = judge_layers(load(folder / "hybrid")).slower
            rows += [_row(network, folder, count, budget_s, slower) for count in map(int, threads.split(","))]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "layers.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    table = HEAD + "\n".join(map(_line, rows)) + "\n"
    (RESULTS / "layers.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)


def _row(network: str, folder: Path, threads: int, budget_s: float, slower: dict[str, str]) -> dict[str, Any]:
    sides = [partial(_turn, folder / form, threads) for form in ("dense", "hybrid")]
    turns = zip(*take_turns(sides, budget_s=budget_s), strict=True)
    dense, hybrid = (_medians(side) for side in turns)
    nodes = onnx.load(folder / "hybrid", load_external_data=False).graph.node
    names = [node.name for node in nodes if node.domain and node.name not in slower]
    layers = [
        {"name": name, "dense_ms": dense[name], "sparse_ms": hybrid[name], "times_faster": dense[name] / hybrid[name]}
        for name in names
    ]
    conversions = {"dense_ms": dense[CONVERSIONS], "hybrid_ms": hybrid[CONVERSIONS]}
    return {"network": network, "threads": threads, "layers": layers, CONVERSIONS: conversions}


def _turn(path: Path, threads: int, seconds: float) -> dict[str, float]:
    """Layer -> median milliseconds of all that runs under its name."""
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)}
    kernels = library_path() if path.name == "hybrid" else None
    total: defaultdict[str, float] = defaultdict(float)
    for name, node in profile_nodes(path, seconds, threads=threads, feed=feed, kernels=kernels).items():
        found = LAYER.search(name)
        layer = CONVERSIONS if node.op in REORDERS else found[0] if found else "others"
        total[layer] += float(np.median(node.ms))
    return total


def _medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    """By layer, over the turns."""
    layers = {layer for turn in turns for layer in turn} | {CONVERSIONS}
    return {layer: float(np.median([turn.get(layer, 0.0) for turn in turns])) for layer in layers}


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
