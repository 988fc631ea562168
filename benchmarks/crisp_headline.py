"""The paper's headline retold: what hybrid sparsity gives per layer and end to end on a simulated accelerator.

Usage: python benchmarks/crisp_headline.py [--target stc_edge_int8] [--measured FILE] [--output FOLDER]

Every method keeps the same share of the prunable weights, but for N:M alone, whose share is that of its pattern;
the baseline is the dense network on the same target. Beside the estimates stands what `headline_measured.py` found on
a real machine, where its file is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import sqrt
from pathlib import Path

from layer_lists import NETWORKS

from crisp_onnx.cost import Estimate, estimate
from crisp_onnx.cost.rewarded import rewarded_pattern
from crisp_onnx.format import hybrid_name
from crisp_onnx.lowering import LayerSparsity, Target, load_target
from crisp_onnx.lowering.layer_sparsity import blocked
from crisp_onnx.lowering.layers import Layer, lower_layers
from crisp_onnx.lowering.lowered import Source
from crisp_onnx.lowering.matrix import Matrix

RESULTS = Path(__file__).parent / "results"
SHARES = (Fraction(1, 2), Fraction(1, 4), Fraction(1, 10))
Choose = Callable[[Matrix, bool], LayerSparsity]


@dataclass(frozen=True)
class Row:
    """One method on one network: dense over it, end to end, for the layer that gains most, and for every layer."""

    network: str
    density: float
    method: str
    latency_ms: float
    latency_ratio: float
    energy_ratio: float | None
    best_layer: str
    best_layer_latency_ratio: float
    best_layer_energy_ratio: float | None
    ceiling: float | None
    layer_latency_ratios: dict[str, float]
    measured_ratio: float | None = None


def patterned(pattern: LayerSparsity, share: Fraction | None, side: int = 1) -> Choose:
    """`pattern` with `share` of the blocks of `side`, on every prunable layer."""

    def choose(matrix: Matrix, prunable: bool) -> LayerSparsity:
        if not prunable:
            return LayerSparsity()
        return pattern if share is None else blocked(pattern, share, matrix.K, side, side)

    return choose


def without_channels(layers: list[Layer], density: Fraction) -> list[Layer]:
    """Channels removed on both sides of every layer but for the image and the classes: sqrt(density) of each stay."""
    keep = sqrt(float(density))
    products = [index for index, layer in enumerate(layers) if layer.matrix is not None]
    thin = []
    for index, layer in enumerate(layers):
        matrix = layer.matrix
        if matrix is None:
            thin.append(replace(layer, inputs=_kept(layer.inputs, keep), outputs=_kept(layer.outputs, keep)))
            continue
        inner, outer = (1.0 if index == products[0] else keep), (1.0 if index == products[-1] else keep)
        taps = matrix.window[0] * matrix.window[1]
        grouped = matrix.groups > 1
        smaller = replace(
            matrix,
            M=matrix.M if grouped else _kept(matrix.M, outer),
            K=matrix.K if grouped else _kept(matrix.K // taps, inner) * taps,
            groups=_kept(matrix.groups, keep) if grouped else 1,
            inputs=_kept(matrix.inputs, inner),
            outputs=_kept(matrix.outputs, outer),
            residuals=_kept(matrix.residuals, outer),
        )
        thin.append(replace(layer, matrix=smaller))
    return thin


def _kept(count: int, share: float) -> int:
    return max(1, round(count * share)) if count else 0


def methods(network: str, share: Fraction, side: int) -> dict[str, list[Layer]]:
    """Layer lists by method; `share`: blocks of `side` that the hybrid keeps; half of it is the weights kept."""
    build, density = NETWORKS[network], share / 2
    return {
        f"hybrid 2:4 x {float(share):.0%}": build(patterned(LayerSparsity(2, 4), share, side)),
        "blocks alone": build(patterned(LayerSparsity(), density, side)),
        "channels removed": without_channels(build(patterned(LayerSparsity(), None)), density),
        "unstructured": build(patterned(LayerSparsity(density=float(density)), None)),
        "2:4 alone (50 %)": build(patterned(LayerSparsity(2, 4), None)),
        "1:4 alone (25 %)": build(patterned(LayerSparsity(1, 4), None)),
    }


def run(target: Target, measured: dict[tuple[str, float, str], float]) -> list[Row]:
    """Every network, density and method on `target`. `measured`: times dense of (network, density, method)."""
    rows, side = [], rewarded_pattern(target)[0].block
    for network, build in NETWORKS.items():
        dense = _estimate(build(patterned(LayerSparsity(), None)), target, network)
        for share in SHARES:
            for method, layers in methods(network, share, side).items():
                found = _estimate(layers, target, network)
                row = compare(network, float(share / 2), method, found, dense)
                rows.append(replace(row, measured_ratio=measured.get((network, row.density, method))))
    return rows


def compare(network: str, density: float, method: str, found: Estimate, dense: Estimate) -> Row:
    """`dense` over `found`, end to end and for the best layer."""
    pairs = list(zip(found.layers, dense.layers, strict=True))
    best, full = max(pairs, key=lambda pair: pair[1].latency_ms / pair[0].latency_ms)
    return Row(
        network,
        density,
        method,
        found.as_is.latency_ms,
        dense.as_is.latency_ms / found.as_is.latency_ms,
        _ratio(dense.as_is.nominal_uj, found.as_is.nominal_uj),
        best.name,
        full.latency_ms / best.latency_ms,
        _ratio(full.nominal_uj, best.nominal_uj),
        found.amdahl.ceiling if len(found.amdahl.left_dense) < len(found.layers) else None,
        {mine.name: whole.latency_ms / mine.latency_ms for mine, whole in pairs},
    )


def _estimate(layers: list[Layer], target: Target, network: str) -> Estimate:
    if target.descriptor.sparsity.hybrid_operators_only:
        layers = [_in_hybrid_operator(layer) for layer in layers]
    return estimate(lower_layers(layers, target, source=Source(file=network, sha256="")), target)


def _in_hybrid_operator(layer: Layer) -> Layer:
    """The layer as this package emits it, where its pattern is one that the hybrid operators can hold."""
    pattern = layer.pattern
    if not (pattern.has_nm or pattern.has_blocks):
        return layer
    hybrid = replace(pattern, hybrid=True, vector_rows=8)
    return replace(layer, op=hybrid_name(layer.op), kind="hybrid", pattern=hybrid)


def _ratio(dense: float | None, other: float | None) -> float | None:
    return dense / other if dense and other else None


def markdown(rows: list[Row], target: Target) -> str:
    """The table, end to end first, the best layer beside it."""
    lines = [
        f"Estimated on {target.name}, batch 1; every ratio is dense on the same target over the method.",
        "",
        "| network | weights kept | method | ms | latency | energy | best layer | its latency | its energy | Amdahl "
        "| measured here |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.network,
            f"{row.density:.1%}",
            row.method,
            f"{row.latency_ms:.3f}",
            f"{row.latency_ratio:.2f}x",
            _times(row.energy_ratio),
            row.best_layer,
            f"{row.best_layer_latency_ratio:.2f}x",
            _times(row.best_layer_energy_ratio),
            _times(row.ceiling),
            _times(row.measured_ratio),
        )
        lines.append(f"| {' | '.join(cells)} |")
    hybrid = [row for row in rows if row.method.startswith("hybrid")]
    whole = max(hybrid, key=lambda row: row.latency_ratio)
    single = max(hybrid, key=lambda row: row.best_layer_latency_ratio)
    lines += [
        "",
        f"Best end to end: {whole.latency_ratio:.2f}x ({whole.network}, {whole.method}). Best single layer: "
        f"{single.best_layer_latency_ratio:.2f}x ({single.network}, {single.best_layer}). 14x against dense is "
        f"{'reached' if whole.latency_ratio >= 14 else 'not reached'} end to end.",
    ]
    return "\n".join(lines) + "\n"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="stc_edge_int8")
    parser.add_argument("--measured", type=Path, default=RESULTS / "headline_measured.json")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    target = load_target(options.target)
    found = json.loads(options.measured.read_text())["rows"] if options.measured.exists() else []
    rows = run(target, {(row["network"], row["weights kept"], row["method"]): row["times dense"] for row in found})
    options.output.mkdir(parents=True, exist_ok=True)
    stem = options.output / f"crisp_headline_{target.name}"
    stem.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    text = markdown(rows, target)
    stem.with_suffix(".md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
