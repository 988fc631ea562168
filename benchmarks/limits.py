"""What bounds a network in int8: its useful multiply-adds at the measured peak, and what stays outside of the kernels.

    python -m benchmarks.limits [--network mobilenet_v2]... [--threads 1,2] [--peers peers]

Each node of our int8 form is timed in the running network, and the peak of the processor's dot products beside it.
`at the peak`: hybrid layers at the peak and everything else as measured on one thread, both divided evenly among the
threads. `divided evenly`: the same with the hybrid layers as measured. No number of threads can be faster than the
first, and none is faster than the second without better kernels. The times of other runtimes are those of
results/PEERS.json. Writes results/limits.json and a table.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.forms import write_forms
from benchmarks.machine import built
from benchmarks.network import Sparsity
from benchmarks.peers.run import BLOCK_SHARES
from benchmarks.record import RESULTS, record
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.library import core_distance_ns
from crisp_onnx.runtime.profiled import NodeTimes, profile_nodes

SECONDS = 2.0
PEERS = ("onnxruntime-fp32", "onnxruntime-int8", "openvino-int8")


@click.command()
@click.option("--network", "networks", multiple=True, default=("mobilenet_v2",), type=click.Choice(list(TOPOLOGIES)))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--peers", default="peers", show_default=True, help="Of the files in benchmarks/results.")
def main(networks: tuple[str, ...], threads: str, peers: str) -> None:
    """Measure, print and write the table."""
    kernel_bench = built("kernel_bench")
    rows = []
    for network in networks:
        sparsity = Sparsity(Pattern(), BLOCK_SHARES.get(network, 0.25))
        with tempfile.TemporaryDirectory() as folder:
            model = write_forms(network, sparsity, Path(folder))["hybrid-int8"]
            peak = _peak_macs_per_s(kernel_bench)
            alone = _profiled(model, 1)
            kept = _kept_weights(model)
            for count in map(int, threads.split(",")):
                nodes, apart_ns = _profiled(model, count), core_distance_ns(2)
                theirs = _medians(RESULTS / f"{peers}.json", network, count)
                rows.append(_row(network, count, peak, kept, alone, nodes, theirs) | {"cores apart, ns": apart_ns})
    record(
        "limits", "What bounds a network in int8, 2:4, block 16, V 8", rows,
        notes=[
            "Useful: multiply-adds by kept weights, of the layers in our hybrid kernels. Outside: all other nodes.",
            f"Times of other runtimes, and how many times as fast the bound would be, by results/{peers}.json.",
        ],
    )  # fmt: skip


def _row(
    network: str,
    threads: int,
    peak: float,
    kept: dict[str, tuple[int, int]],
    alone: dict[str, NodeTimes],
    nodes: dict[str, NodeTimes],
    theirs: dict[str, float],
) -> dict[str, Any]:
    ms = {name: float(np.median(node.ms)) for name, node in alone.items()}
    inside = [name for name in ms if name in kept]
    useful = sum(kept[name][0] * alone[name].output_bytes // kept[name][1] for name in inside)
    inside_ms, outside_ms = (
        sum(ms[name] for name in inside), sum(time for name, time in ms.items() if name not in kept)
    )  # fmt: skip
    at_the_peak = (useful / peak * 1e3 + outside_ms) / threads
    row: dict[str, Any] = {
        "network": network,
        "threads": threads,
        "peak, G multiply-adds a second and core": peak / 1e9,
        "useful, M": useful / 1e6,
        "useful at the peak, ms": useful / peak * 1e3,
        "hybrid layers, ms on one thread": inside_ms,
        "outside, ms on one thread": outside_ms,
        "of them depthwise": sum(ms[name] for name, node in alone.items() if node.op == "QDepthwiseConv"),
        "at the peak, ms": at_the_peak,
        "divided evenly, ms": (inside_ms + outside_ms) / threads,
        "measured, ms": sum(float(np.median(node.ms)) for node in nodes.values()),
    }
    for side in PEERS:
        if side in theirs:
            row |= {f"{side}, ms": theirs[side], f"at the peak, times {side}": theirs[side] / at_the_peak}
    return row


def _profiled(model: Path, threads: int) -> dict[str, NodeTimes]:
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)}
    return profile_nodes(model, SECONDS, threads=threads, feed=feed, kernels=library_path())


def _kept_weights(model: Path) -> dict[str, tuple[int, int]]:
    """Of each hybrid layer: its stored weights, and its output channels, each a byte a position."""
    proto = onnx.load(model, load_external_data=False)
    dims = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        shape = next((attribute.ints for attribute in node.attribute if attribute.name == "weight_shape"), None)
        if shape is not None:
            found[node.name] = int(np.prod(dims[node.input[3]])), int(shape[0])
    return found


def _peak_macs_per_s(program: Path) -> float:
    """The largest that the benchmark of the kernels met between its layers."""
    command = [str(program), "resnet50", "int8", "8", "16", "0.25"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(max(json.loads(line)["peak_macs_per_s"] for line in printed.splitlines()))


def _medians(path: Path, network: str, threads: int) -> dict[str, float]:
    """Side -> ms, where the file has this network and thread count."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return next((row["median_ms"] for row in rows if (row["network"], row["threads"]) == (network, threads)), {})


if __name__ == "__main__":
    main()
