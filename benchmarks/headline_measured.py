"""Time the methods of the paper's headline on this machine: hybrid, its two halves alone, and channels removed.

    python -m benchmarks.headline_measured [--network resnet50]... [--budget-s 1.5]

Every method runs in turn with the dense network in stock ONNX Runtime fp32, one thread, batch 1; seeded weights. Fewer
channels run there too; patterns run in the native kernels, blocks of 16, 8 vector rows. Unstructured zeros gain
nothing in ONNX Runtime; `benchmarks/peers` times them in an engine made for them. `crisp_headline.py` prints these
beside its estimates.
"""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from functools import partial
from math import sqrt
from pathlib import Path
from types import MappingProxyType

import click
import numpy as np
import onnx

from benchmarks.network import Sparsity
from benchmarks.record import record
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime.latency import compare_runs, opened_run

NAMES = MappingProxyType({"resnet50": "ResNet-50", "vgg16": "VGG-16", "mobilenet_v2": "MobileNetV2"})
SHARES = (Fraction(1, 2), Fraction(1, 4), Fraction(1, 10))
DENSE = Sparsity(Pattern(), 1.0)


def methods(share: Fraction) -> dict[str, tuple[Sparsity, bool]]:
    """Sparsity of a method and whether it runs in hybrid operators; `share`: blocks that the hybrid keeps."""
    density = float(share / 2)
    return {
        f"hybrid 2:4 x {float(share):.0%}": (Sparsity(Pattern(2, 4, 16, 8), float(share)), True),
        "blocks alone": (Sparsity(Pattern(4, 4, 16, 8), density), True),
        "channels removed": (Sparsity(Pattern(), 1.0, sqrt(density)), False),
        "2:4 alone (50 %)": (Sparsity(Pattern(2, 4, 16, 8), 1.0), True),
        "1:4 alone (25 %)": (Sparsity(Pattern(1, 4, 16, 8), 1.0), True),
    }


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(NAMES), type=click.Choice(list(NAMES)))
@click.option("--budget-s", default=1.5, show_default=True, help="Seconds a side.")
def main(networks: tuple[str, ...], budget_s: float) -> None:
    """Measure, print and write the table."""
    rows: list[dict[str, object]] = []
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            dense = _write(network, DENSE, False, Path(folder) / "dense.onnx")
            known: dict[str, dict[str, object]] = {}
            for share in SHARES:
                for method, (sparsity, hybrid) in methods(share).items():
                    if "alone (" not in method or method not in known:  # the same at every share
                        path = _write(network, sparsity, hybrid, Path(folder) / "method.onnx")
                        known[method] = _times(dense, path, hybrid, budget_s)
                    rows.append({"network": NAMES[network], "weights kept": float(share / 2), "method": method})
                    rows[-1] |= known[method]
                    sys.stdout.write(f"{rows[-1]}\n")
    record(
        "headline_measured",
        "Times faster than the dense network, measured",
        rows,
        notes=["One thread, batch 1, fp32, 224x224; dense: stock ONNX Runtime, in turn with the method."],
    )


def _write(network: str, sparsity: Sparsity, hybrid: bool, path: Path) -> Path:
    data = f"{path.stem}.data"
    (path.parent / data).unlink(missing_ok=True)
    onnx.save(TOPOLOGIES[network](sparsity, hybrid=hybrid), path, save_as_external_data=True, location=data)
    return path


def _times(dense: Path, method: Path, hybrid: bool, budget_s: float) -> dict[str, object]:
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    sides = [partial(opened_run, path, image, 1, native=native) for path, native in ((dense, False), (method, hybrid))]
    timing = compare_runs(sides, threads=1, budget_s=budget_s)
    return {
        "times dense": timing.ratios[1].median,
        "10 %": timing.ratios[1].p10,
        "90 %": timing.ratios[1].p90,
        "ms": timing.sides_ms[1].median,
    }


if __name__ == "__main__":
    main()
