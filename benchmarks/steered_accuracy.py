"""Accuracy of a model steered by a target's latency budget, beside one global threshold at the same estimated latency.

    python benchmarks/steered_accuracy.py [--target stc_edge_int8] [--quick]

A point's sparsity gives the threshold's model; its estimated latency is then the other run's whole budget. Both take
the same pattern, the target's, and the same recipe. Without epochs the masks alone are compared, BatchNorm
re-estimated. Logits restricted to ten classes. `--quick`: only the points without fine-tuning.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from record import record

from crisp_onnx import Recipe, compress
from crisp_onnx.api.hardware import estimate
from crisp_onnx.report.schema import Report

MOBILENET = "mobilenetv1_imagenet.onnx"


@dataclass(frozen=True)
class Point:
    """`sparsity`: share of the prunable weights that the threshold removes. `classes`: which CIFAR class set."""

    model: str
    sparsity: float
    epochs: int
    classes: int = 0


POINTS = (
    Point(RESNET, 0.65, 0),
    Point(RESNET, 0.75, 0),
    Point(RESNET, 0.875, 0),
    Point(MOBILENET, 0.55, 0),
    Point(MOBILENET, 0.6, 0),
    Point(MOBILENET, 0.75, 2),
    *(Point(RESNET, 0.875, 10, number) for number in range(3)),
)


def run(
    folder: Path, point: Point, output: Path, *, target: str, latency_ms: float | None = None
) -> tuple[Report, float]:
    """The report of one run, the point's sparsity its budget unless `latency_ms` is, and its model's estimated ms."""
    cifar = point.model == RESNET
    synsets = tuple(sorted(p.name for p in (folder / "imagenette" / "val").iterdir()))
    recipe = Recipe(
        model=folder / "models" / point.model, output=output, target=target, epochs=point.epochs,
        sparsity=None if latency_ms else point.sparsity, latency_ms=latency_ms,
        classes=class_set(point.classes) if cifar else synsets,
        labels=folder / ("cifar100_labels.txt" if cifar else "imagenet_labels.txt"),
        preprocess=CIFAR_PREPROCESS if cifar else "signed",
        data=None if cifar else folder / "imagenette" / "train",
        eval_data=None if cifar else folder / "imagenette" / "val",
    )  # fmt: skip
    pairs = [CifarImages(folder, split, class_set(point.classes)) if cifar else None for split in ("train", "test")]
    report = compress(recipe, data=pairs[0], eval_data=pairs[1])
    return report, estimate(output / "model.onnx", target).estimate.as_is.latency_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="stc_edge_int8")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder, rows = data_folder(), []
    for point in POINTS:
        if options.quick and point.epochs:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            places = Path(temporary) / "threshold", Path(temporary) / "steered"
            plain, plain_ms = run(folder, point, places[0], target=options.target)
            steered, steered_ms = run(folder, point, places[1], target=options.target, latency_ms=plain_ms)
        rows.append(
            {
                "model": Path(point.model).stem, "class set": point.classes if point.model == RESNET else None,
                "epochs": point.epochs, "dense": plain.accuracy.dense.top1_restricted,
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
            notes=["Both in the target's pattern; the steered model may leave layers dense."],
        )


if __name__ == "__main__":
    main()
