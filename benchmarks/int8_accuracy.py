"""Accuracy in int8 against the same network in float32, which the report of a run in int8 tells of its images.

python -m benchmarks.int8_accuracy [--cases resnet:0,resnet:1,resnet:2,mobilenetv1,mobilenetv2] [--epochs 0]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from benchmarks.record import record
from crisp_onnx import Recipe, Report, compress

CASES = "resnet:0,resnet:1,resnet:2,mobilenetv1,mobilenetv2"


def run(case: str, folder: Path, output: Path, *, sparsity: float, epochs: int) -> Report:
    """One run of the public function. `case`: resnet and the number of a class set, or the name of a MobileNet."""
    kind, _, number = case.partition(":")
    cifar = kind == "resnet"
    classes = class_set(int(number)) if cifar else tuple(sorted(p.name for p in (folder / "imagenette/val").iterdir()))
    recipe = Recipe(
        model=folder / "models" / (RESNET if cifar else f"{kind}_imagenet.onnx"), classes=classes, output=output,
        labels=folder / ("cifar100_labels.txt" if cifar else "imagenet_labels.txt"), sparsity=sparsity, epochs=epochs,
        preprocess=CIFAR_PREPROCESS if cifar else "signed", target="portable", precision="int8",
        data=None if cifar else folder / "imagenette/train", eval_data=None if cifar else folder / "imagenette/val",
    )  # fmt: skip
    pairs = [CifarImages(folder, split, classes) if cifar else None for split in ("train", "test")]
    return compress(recipe, data=pairs[0], eval_data=pairs[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--sparsity", type=float, default=0.875)
    parser.add_argument("--name", default="int8_accuracy", help="of the files in benchmarks/results")
    options = parser.parse_args()
    folder, rows = data_folder(), []
    for case in options.cases.split(","):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            report = run(case, folder, Path(temporary) / "int8", sparsity=options.sparsity, epochs=options.epochs)
        accuracy, found = report.accuracy, report.quantisation
        untouched, float32, int8 = (
            round((score.top1_restricted or 0) * accuracy.n)
            for score in (accuracy.dense, accuracy.float32, accuracy.compressed)
        )
        rows.append(
            {
                "model": case,
                "images": accuracy.n,
                "untouched": untouched,
                "float32": float32,
                "int8": int8,
                "points": 100 * (int8 - float32) / accuracy.n,
                "ranges by": found and found.method,
                "layers in float32": found and found.layers_float32,
                "epochs in int8": found and found.epochs,
                "worst step of a kernel": found and found.worst_step,
                "share equal to the body": found and found.share_equal,
                "bytes": report.file.bytes,
                "seconds": round(time.perf_counter() - start),
            }
        )
        print(rows[-1], flush=True)
        record(
            options.name, f"int8 against float32, 2:4, block 16, V 8, {options.sparsity:.1%} sparse", rows,
            notes=[
                f"{options.epochs} epochs, head kept, seed 0; right answers among ten classes, of evaluation images "
                "that chose nothing."
            ],
        )  # fmt: skip


if __name__ == "__main__":
    main()
