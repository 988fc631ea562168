"""Accuracy of a model steered by a target's latency budget, beside one global threshold at the same estimated latency.

    python benchmarks/steered_accuracy.py [--target stc_edge_int8] [--sparsity 0.875] [--epochs 10,2]

`--sparsity` gives the threshold's model; its estimated latency is then the other run's whole budget. Both are
fine-tuned by the same recipe; logits restricted to ten classes. `--epochs`: for the CIFAR and the ImageNet model.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from record import record

from crisp_onnx import Recipe, compress
from crisp_onnx.api.targets import estimate
from crisp_onnx.report.schema import Report

MODELS = (RESNET, "mobilenetv1_imagenet.onnx")


def run(
    folder: Path, name: str, output: Path, *, target: str, epochs: int, sparsity: float | None, latency_ms: float | None
) -> tuple[Report, float]:
    """The report of one run under one of the two budgets, and the estimated ms of its model."""
    cifar = name == RESNET
    recipe = Recipe(
        model=folder / "models" / name, output=output, target=target, epochs=epochs,
        sparsity=sparsity, latency_ms=latency_ms,
        classes=class_set(0) if cifar else tuple(sorted(p.name for p in (folder / "imagenette" / "val").iterdir())),
        labels=folder / ("cifar100_labels.txt" if cifar else "imagenet_labels.txt"),
        preprocess=CIFAR_PREPROCESS if cifar else "signed",
        data=None if cifar else folder / "imagenette" / "train",
        eval_data=None if cifar else folder / "imagenette" / "val",
    )  # fmt: skip
    pairs = [CifarImages(folder, split, class_set(0)) if cifar else None for split in ("train", "test")]
    report = compress(recipe, data=pairs[0], eval_data=pairs[1])
    return report, estimate(output / "model.onnx", target).estimate.as_is.latency_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="stc_edge_int8")
    parser.add_argument("--sparsity", type=float, default=0.875)
    parser.add_argument("--epochs", default="10,2")
    options = parser.parse_args()
    folder, rows = data_folder(), []
    for name, epochs in zip(MODELS, map(int, options.epochs.split(",")), strict=True):
        with tempfile.TemporaryDirectory() as temporary:
            places = Path(temporary) / "threshold", Path(temporary) / "steered"
            plain, plain_ms = run(
                folder, name, places[0],
                target=options.target, epochs=epochs, sparsity=options.sparsity, latency_ms=None,
            )  # fmt: skip
            steered, steered_ms = run(
                folder, name, places[1], target=options.target, epochs=epochs, sparsity=None, latency_ms=plain_ms
            )
        rows.append(
            {
                "model": Path(name).stem, "epochs": epochs, "dense": plain.accuracy.dense.top1_restricted,
                "threshold, ms": plain_ms, "threshold": plain.accuracy.compressed.top1_restricted,
                "steered, ms": steered_ms, "steered": steered.accuracy.compressed.top1_restricted,
                "zeros, threshold": plain.sparsity.weights, "zeros, steered": steered.sparsity.weights,
                "images": plain.accuracy.n,
            }
        )  # fmt: skip
        record(
            f"steered_accuracy_{Path(options.target).stem}",
            f"Accuracy at equal estimated latency on {Path(options.target).stem}",
            rows,
            notes=[f"Threshold: {options.sparsity:.1%} of the prunable weights removed; the target's pattern in both."],
        )


if __name__ == "__main__":
    main()
