"""Steered by a target or by one global threshold: saliency kept at equal estimated latency.

Usage: python benchmarks/steered_allocation.py MODEL.onnx... [--target stc_edge_int8] [--output FOLDER]

Both plans use the target's rewarded pattern and |weight| as saliency. The global threshold removes blocks by saliency
per weight over all layers, above the floor that `compress` uses; the steered plan is then given exactly the latency
that the threshold's plan takes. Saliency stands in for accuracy here: neither plan is fine-tuned.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from crisp_onnx.cost.rewarded import rewarded_pattern
from crisp_onnx.cost.steer import Steered
from crisp_onnx.lowering import load_target, lower
from crisp_onnx.masks import Candidates, Plan, Threshold
from crisp_onnx.model import load, tensor_shapes, weight_layers

SPARSITIES = (0.6, 0.75, 0.875, 0.95)


@dataclass(frozen=True)
class Row:
    """Saliency kept, as a share of the dense model's, and estimated ms of both plans."""

    model: str
    target: str
    sparsity: float
    dense_ms: float
    threshold_ms: float
    threshold_saliency: float
    steered_ms: float
    steered_saliency: float
    steered_dense_layers: int


def compare(path: Path, target_name: str) -> list[Row]:
    """A row per sparsity of the global threshold."""
    model, target = load(path), load_target(target_name)
    layers = weight_layers(model, tensor_shapes(model))
    pattern, _ = rewarded_pattern(target)
    stored = {
        node.inputs[1].name: node.inputs[1].values
        for node in model.graph().nodes
        if len(node.inputs) > 1 and hasattr(node.inputs[1], "values")
    }
    saliency = {layer.weight: np.abs(layer.matrix(stored[layer.weight])).astype(np.float32) for layer in layers}
    reasons = {layer.name: layer.obstacle for layer in layers}
    candidates = Candidates(layers, pattern, reasons)
    planner = Steered(candidates, 1.0, "latency_ms", lower(model, target), target)

    def kept(plan: Plan) -> float:
        free = [layer for layer in layers if not reasons[layer.name]]
        masks = plan.masks()
        whole = sum(float(saliency[layer.weight].sum()) for layer in free)
        return sum(float((saliency[x.weight] * masks.get(x.weight, True)).sum()) for x in free) / whole

    rows = []
    for sparsity in SPARSITIES:
        threshold = Threshold(candidates, 1 - sparsity).plan(saliency)
        limit = planner.cost(threshold)
        steered = replace(planner, limit=limit).plan(saliency)
        rows.append(
            Row(
                path.stem,
                target.name,
                sparsity,
                planner.cost(Plan()),
                limit,
                kept(threshold),
                planner.cost(steered),
                kept(steered),
                len(steered.layers) - len(list(steered.sparse())),
            )
        )
    return rows


def markdown(rows: list[Row]) -> str:
    lines = [
        "| model | target | threshold at | dense ms | ms | saliency kept | steered ms | saliency kept | left dense |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {r.target} | {r.sparsity:.1%} zeros | {r.dense_ms:.4f} | {r.threshold_ms:.4f} | "
        f"{r.threshold_saliency:.1%} | {r.steered_ms:.4f} | {r.steered_saliency:.1%} | {r.steered_dense_layers} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="stc_edge_int8")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rows = [row for path in options.models for row in compare(path, options.target)]
    options.output.mkdir(parents=True, exist_ok=True)
    stem = options.output / f"steered_allocation_{Path(options.target).stem}"
    stem.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(rows))
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
