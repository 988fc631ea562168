"""Walk the whole road on every real model: accuracy, size against the formula, equality with the masked dense graph.

python benchmarks/road.py [--epochs 2] [--sparsity 0.7]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from record import record

from crisp_onnx import Recipe, compress, inspect
from crisp_onnx.report.schema import Report


def row(name: str, report: Report, seconds: float) -> dict[str, object]:
    """One line of the table."""
    accuracy = report.accuracy
    return {
        "model": name,
        "dense, among ten": accuracy.dense.top1_restricted,
        "compressed": accuracy.compressed.top1_restricted,
        "images": accuracy.n,
        "sparsity": report.sparsity.weights,
        "MACs kept": report.macs.kept_ratio,
        "bytes": report.file.bytes,
        "over formula, %": 100 * (report.file.bytes / report.file.bytes_formula - 1),
        "of dense file, %": 100 * report.file.bytes / report.file.bytes_dense,
        "worst relative": report.equivalence.worst_relative,
        "seconds": round(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--sparsity", type=float, default=0.7)
    options = parser.parse_args()
    folder = data_folder()
    rows = []
    for path in sorted((folder / "models").glob("*.onnx")):
        cifar = path.name == RESNET
        synsets = tuple(sorted(p.name for p in (folder / "imagenette" / "val").iterdir()))
        with tempfile.TemporaryDirectory() as temporary:
            recipe = Recipe(
                model=path, output=Path(temporary) / "out", sparsity=options.sparsity, epochs=options.epochs,
                target="portable",
                classes=class_set(0) if cifar else synsets,
                labels=folder / ("cifar100_labels.txt" if cifar else "imagenet_labels.txt"),
                preprocess=CIFAR_PREPROCESS if cifar else "signed",
                data=None if cifar else folder / "imagenette" / "train",
                eval_data=None if cifar else folder / "imagenette" / "val",
            )  # fmt: skip
            start = time.perf_counter()
            pairs = [CifarImages(folder, split, class_set(0)) if cifar else None for split in ("train", "test")]
            report = compress(recipe, data=pairs[0], eval_data=pairs[1])
            inspect(recipe.folder / "model.onnx")
            rows.append(row(path.stem, report, time.perf_counter() - start))
        record(
            "road", "The whole road on real models", rows,
            notes=[f"2:4, block 16, V 8, {options.sparsity:.0%} sparse, {options.epochs} epochs, head kept."],
        )  # fmt: skip


if __name__ == "__main__":
    main()
