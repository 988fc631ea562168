"""Every layer in the form that `compress` emits, in its running network, against the best other dense form of itself.

    python -m benchmarks.layers [--precision int8] [--network resnet50 ...] [--threads 1,2]

The forms are chosen as `compress` chooses them on this machine: which layers are sparse, in which precision, and which
ordinary convolutions our int8 kernels compute. All networks run in turn under ONNX Runtime's profiler, only one of them
alive at a time. Here a layer meets the caches and the threads that its neighbours leave it, as it does in service;
`crisp-onnx bench --per-layer` measures layers alone. A layer's time is that of all nodes of its name, and of the
conversions around it: those between two layers, of layout or of precision, count half to each. In int8, the layers
that are not sparse are compared with float32 as it would be there, with conversions from and to bytes: in the emitted
network again, in which only sparse layers compute on bytes. Writes
results/layers.{json,md}, in int8 results/layers_int8.{json,md}, beside the rows of networks and threads that are not
measured this time.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.end_to_end import PATTERNS
from benchmarks.forms import SIZE, quantize_ours, quantize_theirs, write_float
from benchmarks.network import Sparsity
from benchmarks.peers.run import BLOCK_SHARES
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.model import load
from crisp_onnx.quantize import rehearsed
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.layer_times import REORDERS
from crisp_onnx.runtime.library import core_distance_ns
from crisp_onnx.runtime.never_slower import judge_layers
from crisp_onnx.runtime.profiled import NodeTimes, profile_nodes
from crisp_onnx.runtime.turns import take_turns

RESULTS = Path(__file__).parent / "results"
LAYER = re.compile(r"(conv|fc)\d+")
CONVERSIONS = frozenset({*REORDERS, "QuantizeLinear", "DequantizeLinear"})
DENSE_FLOAT32, DENSE_INT8, AMONG_BYTES = "dense float32", "dense int8", "float32 among bytes"
FORM_OF = {
    **dict.fromkeys(("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"), DENSE_FLOAT32),
    **dict.fromkeys(("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"), DENSE_INT8),
    **dict.fromkeys(("HybridConv", "HybridConvAdd", "HybridGemm"), "hybrid float32"),
    **dict.fromkeys(("HybridQConv", "HybridQConvAdd", "HybridQGemm"), "hybrid int8"),
    "QDepthwiseConv": "depthwise int8 of ours",
}
"""What a layer is in, by the operator that ONNX Runtime runs for it."""
EMITTED = "emitted"
WORST = 3
HEAD = """\
| network | threads | layers | emitted as | times faster: least | median | most | below 1.0 | gain least | \
cores apart, ns |
|---|--:|--:|---|--:|--:|--:|--:|---|--:|
"""
LAYERS_HEAD = "| layer | emitted as | ms | seams of it | best other dense form | ms | times faster |\n"


@dataclass(frozen=True)
class LayerTime:
    """`ms`: with `seams_ms`, the conversions around it. `form`: see `FORM_OF`."""

    form: str
    ms: float
    seams_ms: float


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--pattern", default="V8 1/4", show_default=True, type=click.Choice(list(PATTERNS)))
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "int8"]))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--budget-s", default=6.0, show_default=True, help="Seconds a side.")
def main(networks: tuple[str, ...], pattern: str, precision: str, threads: str, budget_s: float) -> None:
    """Measure, print and write the tables. Of some networks' blocks another share is kept, as `benchmarks.peers`."""
    rows = []
    for network in networks:
        sparsity = PATTERNS[pattern]
        sparsity = replace(sparsity, block_share=BLOCK_SHARES.get(network, sparsity.block_share))
        with tempfile.TemporaryDirectory() as name:
            files = _write(network, sparsity, precision, Path(name))
            rows += [_row(network, files, count, budget_s) for count in map(int, threads.split(","))]
    name = "layers" if precision == "fp32" else f"layers_{precision}"
    RESULTS.mkdir(exist_ok=True)
    rows = _among_others(RESULTS / f"{name}.json", rows)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    table = HEAD + "\n".join(map(_line, rows)) + "\n"
    (RESULTS / f"{name}.md").write_text(table + "\n" + "\n".join(map(_layers_table, rows)), encoding="utf-8")
    sys.stdout.write(table)


def _among_others(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These rows and those of an earlier run with the same columns and another network or other threads."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    measured = {(row["network"], row["threads"]) for row in rows}
    alike = [row for row in earlier if row.keys() == rows[0].keys()]
    both = [row for row in alike if (row["network"], row["threads"]) not in measured] + rows
    return sorted(both, key=lambda row: (list(TOPOLOGIES).index(row["network"]), row["threads"]))


def _write(network: str, sparsity: Sparsity, precision: str, folder: Path) -> dict[str, Path]:
    """The dense forms, and the one that `compress` would emit on this machine."""
    dense, packed = folder / "dense.onnx", folder / "hybrid.onnx"
    write_float(network, sparsity, dense, hybrid=False)
    write_float(network, sparsity, packed, hybrid=True)
    timed = load(packed) if precision == "fp32" else rehearsed(load(packed), size=SIZE).model
    slower = judge_layers(timed, size=SIZE).slower
    if slower:
        write_float(network, replace(sparsity, dense=frozenset(slower)), packed, hybrid=True)
    if precision == "fp32":
        return {DENSE_FLOAT32: dense, EMITTED: packed}
    theirs, ours, among = folder / "dense-int8.onnx", folder / "hybrid-int8.onnx", folder / "among-bytes.onnx"
    quantize_theirs(dense, theirs)
    quantize_ours(dense, packed, ours)
    quantize_ours(dense, packed, among, also_kept=_ordinary(packed))
    return {DENSE_FLOAT32: dense, DENSE_INT8: theirs, AMONG_BYTES: among, EMITTED: ours}


def _ordinary(path: Path) -> frozenset[str]:
    """The layers that are no hybrid ones."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return frozenset(node.name for node in nodes if FORM_OF.get(node.op_type) == DENSE_FLOAT32)


def _row(network: str, files: Mapping[str, Path], threads: int, budget_s: float) -> dict[str, Any]:
    nodes = onnx.load(files[DENSE_FLOAT32], load_external_data=False).graph.node
    own = frozenset(node.name for node in nodes)
    sides = [partial(_turn, path, threads, own) for path in files.values()]
    apart_ns = core_distance_ns(2) or 0.0
    turns = zip(*take_turns(sides, budget_s=budget_s), strict=True)
    found = dict(zip(files, map(_medians, turns), strict=True))
    emitted = found.pop(EMITTED)
    layers = [_layer(name, time, found) for name, time in emitted.items()]
    return {
        "network": network,
        "threads": threads,
        "cores_apart_ns": apart_ns,
        "layers": [layer for layer in layers if layer is not None],
    }


def _layer(name: str, emitted: LayerTime, dense: Mapping[str, Mapping[str, LayerTime]]) -> dict[str, Any] | None:
    """The layer's entry; None where it is emitted in the only dense form that there is."""
    others = {form: times[name].ms for form, times in dense.items() if form not in (emitted.form, AMONG_BYTES)}
    among = dense.get(AMONG_BYTES, {}).get(name)
    if among is not None and DENSE_FLOAT32 in others and among.form == DENSE_FLOAT32:
        others[DENSE_FLOAT32] = among.ms
    if not others:
        return None
    best = min(others, key=lambda form: others[form])
    return {
        "name": name,
        "form": emitted.form,
        "ms": emitted.ms,
        "seams_ms": emitted.seams_ms,
        "dense_ms": others,
        "best_dense": best,
        "times_faster": others[best] / emitted.ms,
    }


def _turn(path: Path, threads: int, own: frozenset[str], seconds: float) -> dict[str, LayerTime]:
    """Median times of the layers, by name. `own`: nodes of the network as it was, which are no conversions."""
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, *SIZE), dtype=np.float32)}
    kernels = library_path() if onnx.load(path, load_external_data=False).functions else None
    return layer_times(profile_nodes(path, seconds, threads=threads, feed=feed, kernels=kernels), own)


def layer_times(nodes: Mapping[str, NodeTimes], own: frozenset[str]) -> dict[str, LayerTime]:
    """From the nodes of a profile, in the order in which they ran, to layers."""
    total, seams, forms = defaultdict[str, float](float), defaultdict[str, float](float), dict[str, str]()
    before, between = "", 0.0
    for name, node in nodes.items():
        ms = float(np.median(node.ms))
        found = LAYER.search(name)
        if node.op in CONVERSIONS and name not in own:
            between += ms
        elif found:
            total[found[0]] += ms
            if node.op in FORM_OF:
                forms[found[0]] = FORM_OF[node.op]
                sides = [side for side in (before, found[0]) if side]
                for side in sides:
                    seams[side] += between / len(sides)
                before, between = found[0], 0.0
    seams[before] += between
    return {name: LayerTime(form, total[name] + seams[name], seams[name]) for name, form in forms.items()}


def _medians(turns: Sequence[Mapping[str, LayerTime]]) -> dict[str, LayerTime]:
    """By layer, over the turns."""
    return {
        name: LayerTime(
            time.form,
            float(np.median([turn[name].ms for turn in turns])),
            float(np.median([turn[name].seams_ms for turn in turns])),
        )
        for name, time in turns[0].items()
    }


def _line(row: dict[str, Any]) -> str:
    ranked = sorted(row["layers"], key=lambda layer: layer["times_faster"])
    gains = [layer["times_faster"] for layer in ranked]
    worst = ", ".join(f"{layer['name']} {layer['times_faster']:.2f}" for layer in ranked[:WORST])
    forms = ", ".join(f"{count} {form}" for form, count in Counter(layer["form"] for layer in ranked).items())
    below = sum(gain < 1 for gain in gains)
    return (
        f"| {row['network']} | {row['threads']} | {len(gains)} | {forms} | {gains[0]:.2f} | {np.median(gains):.2f} | "
        f"{gains[-1]:.2f} | {below} | {worst} | {row['cores_apart_ns']:.0f} |"
    )


def _layers_table(row: dict[str, Any]) -> str:
    threads = f"{row['threads']} {'thread' if row['threads'] == 1 else 'threads'}"
    lines = [
        f"| {layer['name']} | {layer['form']} | {layer['ms']:.3f} | {layer['seams_ms']:.3f} | {layer['best_dense']} "
        f"| {layer['dense_ms'][layer['best_dense']]:.3f} | {layer['times_faster']:.2f} |\n"
        for layer in row["layers"]
    ]
    return f"## {row['network']}, {threads}\n\n{LAYERS_HEAD}|---|---|--:|--:|---|--:|--:|\n{''.join(lines)}"


if __name__ == "__main__":
    main()
