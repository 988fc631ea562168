"""Time the kernels alone, one core: per layer the share of the peak, counting useful non-zeros and positions.

    python -m benchmarks.kernels [--network resnet50] [--element int8] [--vector-rows 8] [--block-share 0.25]

Builds the C++ benchmark, runs it, and writes results/kernels_*.json and a table beside it. Layers from conv3 on
count for the mean: those before are bound by memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from benchmarks.machine import built

RESULTS = Path(__file__).parent / "results"
WORST = 3


@click.command()
@click.option("--network", type=click.Choice(["resnet50", "vgg16"]), default="resnet50")
@click.option("--element", type=click.Choice(["float32", "int8"]), default="float32")
@click.option("--vector-rows", default=8, show_default=True)
@click.option("--block", default=16, show_default=True)
@click.option("--block-share", default=0.25, show_default=True, help="Share of the blocks that every block row keeps.")
def main(network: str, element: str, vector_rows: int, block: int, block_share: float) -> None:
    """Measure, print and write the table."""
    command = [str(built("kernel_bench")), network, element, str(vector_rows), str(block), str(block_share)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [_with_shares(json.loads(line)) for line in printed.splitlines()]
    name = f"kernels_{network}_{'' if element == 'float32' else f'{element}_'}v{vector_rows}_b{block}_{block_share:g}"
    table = _table(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)


def _with_shares(row: dict[str, Any]) -> dict[str, Any]:
    """Add shares of the peak: of the inner loops, and of the whole call with its packing."""
    useful_ms = row["macs"] / row["peak_macs_per_s"] * 1e3
    return {
        **row,
        "compute_share": useful_ms / row["compute_ms"],
        "call_share": useful_ms / row["call_ms"],
        "times_perfect_dense": row["dense_macs"] / row["peak_macs_per_s"] * 1e3 / row["call_ms"],
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| layer | kernel | activations | inner loops, % of peak | with packing | ms | times a perfect dense kernel |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['layer']} | {row['kernel']} | {row['layout']} | {row['compute_share']:.0%} "
            f"| {row['call_share']:.0%} | {row['call_ms']:.3f} | {row['times_perfect_dense']:.2f} |"
        )
    late = [row for row in rows if not row["layer"].startswith("conv2")]
    worst = sorted(rows, key=lambda row: row["call_share"])[:WORST]
    peak = max(row["peak_macs_per_s"] for row in rows) * 2 / 1e9
    lines.append("")
    lines.append(f"Peak {peak:.0f} G operations a second. Mean share of it, inner loops alone (with packing):")
    for words, of in (("all layers", rows), ("without those named conv2", late)):
        inner, whole = (fmean(row[key] for row in of) for key in ("compute_share", "call_share"))
        lines.append(f"{words} {inner:.0%} ({whole:.0%}){'.' if of is late else ','}")
    lines.append("Furthest from the peak with packing: " + ", ".join(row["layer"] for row in worst) + ".")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
