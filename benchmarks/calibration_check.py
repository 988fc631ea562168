"""Hold a calibrated target against whole models that its calibration never saw: end to end and layer by layer.

Usage: python benchmarks/calibration_check.py TARGET.yaml MODEL.onnx... [--threads 1] [--kernels FILE] [--output DIR]

With `--kernels` every model is also made sparse at random (1:4 in half of the blocks) and run in hybrid operators.
Run it on a quiet machine: the measured side is only as good as that.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crisp_onnx.cost.calibrate.hybrid import hybrid_network
from crisp_onnx.cost.calibrate.machine import this_machine
from crisp_onnx.cost.calibrate.samples import Measured, measure_model
from crisp_onnx.cost.estimator import cost_operators
from crisp_onnx.lowering import Target, load_target
from crisp_onnx.model import load

BUDGET_S = 2.0
SEED = 4
WORST = 3


@dataclass(frozen=True)
class Row:
    """ms predicted and measured (the whole run, and the sum of its operators' quiet times); Spearman over layers."""

    model: str
    threads: int
    predicted_ms: float
    measured_ms: float
    operators_ms: float
    spearman: float
    worst_layers: tuple[str, ...]

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted_ms / self.measured_ms - 1)

    @property
    def operators_error_percent(self) -> float:
        return 100 * (self.predicted_ms / self.operators_ms - 1)


def check(measured: Measured, target: Target, threads: int) -> Row:
    """Predict the operators of one measured model."""
    predicted = cost_operators("as_is", tuple(sample.op for sample in measured.samples), target)
    guess = np.array([layer.latency_ms * 1e3 for layer in predicted.layers])
    truth = np.array([sample.time_us for sample in measured.samples])
    order = np.argsort(-np.abs(guess - truth))[:WORST]
    worst = tuple(f"{measured.samples[i].op.name}: {guess[i]:.0f} for {truth[i]:.0f} us" for i in order)
    return Row(
        measured.network,
        threads,
        predicted.latency_ms,
        measured.whole_ms,
        float(truth.sum()) / 1e3,
        float(np.corrcoef(_ranks(guess), _ranks(truth))[0, 1]),
        worst,
    )


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks, equal values sharing the mean of theirs: layers of one shape are predicted to take the same time."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def markdown(rows: list[Row], target: Target) -> str:
    lines = [
        f"Predicted by {target.name}, whose calibration saw none of these models.",
        "",
        "| model | threads | predicted ms | measured ms | error | operators ms | error | Spearman | worst layers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {r.threads} | {r.predicted_ms:.2f} | {r.measured_ms:.2f} | {r.error_percent:+.1f} % | "
        f"{r.operators_ms:.2f} | {r.operators_error_percent:+.1f} % | {r.spearman:.3f} | {'; '.join(r.worst_layers)} |"
        for r in rows
    ]
    for name, errors in (
        ("whole runs", [abs(r.error_percent) for r in rows]),
        ("sums of operators", [abs(r.operators_error_percent) for r in rows]),
    ):
        lines.append(f"\nAgainst {name}: mean {np.mean(errors):.1f} %, worst {max(errors):.1f} %.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernels", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    target, base, granule = load_target(options.target), load_target("x86_avx2"), this_machine().granule
    rows = []
    for path in options.models:
        model = load(path)
        found = measure_model(model, path.stem, base, threads=options.threads, granule=granule, budget_s=BUDGET_S)
        rows.append(check(found, target, options.threads))
        sparse = hybrid_network(model, SEED) if options.kernels else None
        if sparse is not None:
            found = measure_model(
                sparse,
                f"{path.stem}, hybrid",
                base,
                threads=options.threads,
                granule=granule,
                kernels=options.kernels,
                budget_s=BUDGET_S,
            )
            rows.append(check(found, target, options.threads))
    options.output.mkdir(parents=True, exist_ok=True)
    stem = options.output / f"calibration_check_{options.threads}"
    stem.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(rows, target))
    print(markdown(rows, target), end="")


if __name__ == "__main__":
    main()
