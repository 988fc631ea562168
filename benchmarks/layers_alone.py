"""Every layer that the never-slower rule emits as sparse, measured anew alone against its dense self.

python -m benchmarks.layers_alone [--network resnet50 ...] [--threads 1,2]

The rule judges at batch 1 on one thread; the table says whether its verdicts hold, and which layers gain least.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.end_to_end import PATTERNS
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.model import load
from crisp_onnx.runtime.layer_bench import layers_alone
from crisp_onnx.runtime.never_slower import judge_layers

RESULTS = Path(__file__).parent / "results"
WORST = 3
HEAD = """\
| network | threads | layers | emitted as sparse | of those, times faster: least | median | most | gain least |
|---|--:|--:|--:|--:|--:|--:|---|
"""


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", default="V8 1/4", show_default=True, type=click.Choice(list(PATTERNS)))
@click.option("--threads", default="1,2", show_default=True)
def main(networks: tuple[str, ...], pattern: str, threads: str) -> None:
    """Measure, print and write the table."""
    rows = []
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hybrid.onnx"
            model = TOPOLOGIES[network](PATTERNS[pattern], hybrid=True)
            onnx.save(model, path, save_as_external_data=True, location="hybrid.data")
            rows += [_row(network, path, count) for count in map(int, threads.split(","))]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "layers_alone.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    table = HEAD + "\n".join(map(_line, rows)) + "\n"
    (RESULTS / "layers_alone.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)


def _row(network: str, path: Path, threads: int) -> dict[str, Any]:
    slower = judge_layers(load(path)).slower
    found = layers_alone(path, threads=threads).layers
    layers = [
        {"name": layer.node, "kernel": layer.kernel, "sparse": layer.node not in slower,
         "dense_ms": layer.verdict.times.dense_ms, "sparse_ms": layer.verdict.sparse_ms,
         "times_faster": layer.verdict.speedup, "noisy": layer.verdict.times.noisy}
        for layer in found
    ]  # fmt: skip
    return {"network": network, "threads": threads, "layers": layers}


def _line(row: dict[str, Any]) -> str:
    sparse = sorted((layer for layer in row["layers"] if layer["sparse"]), key=lambda layer: layer["times_faster"])
    gains = [layer["times_faster"] for layer in sparse]
    worst = ", ".join(f"{layer['name']} {layer['times_faster']:.2f}" for layer in sparse[:WORST])
    return (
        f"| {row['network']} | {row['threads']} | {len(row['layers'])} | {len(sparse)} | {gains[0]:.2f} | "
        f"{np.median(gains):.2f} | {gains[-1]:.2f} | {worst} |"
    )


if __name__ == "__main__":
    main()
