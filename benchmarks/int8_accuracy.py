"""Accuracy in int8 against the same network in float32: one recipe run twice, so that masks and weights are the same.

python benchmarks/int8_accuracy.py [--cases resnet:0,resnet:1,resnet:2,mobilenetv1,mobilenetv2] [--epochs 0]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from record import record

from crisp_onnx import Recipe, Report, compress

CASES = "resnet:0,resnet:1,resnet:2,mobilenetv1,mobilenetv2"


def run(case: str, folder: Path, output: Path, *, sparsity: float, epochs: int, precision: str) -> Report:
    """One run of the public function. `case`: resnet and the number of a class set, or the name of a MobileNet."""
    kind, _, number = case.partition(":")
    cifar = kind == "resnet"
    classes = class_set(int(number)) if cifar else tuple(sorted(p.name for p in (folder / "imagenette/val").iterdir()))
    recipe = Recipe(
        model=folder / "models" / (RESNET if cifar else f"{kind}_imagenet.onnx"), classes=classes, output=output,
        labels=folder / ("cifar100_labels.txt" if cifar else "imagenet_labels.txt"), sparsity=sparsity, epochs=epochs,
        preprocess=CIFAR_PREPROCESS if cifar else "signed", target="portable", precision=precision,  # type: ignore[arg-type]
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
            float32, int8 = (
                run(case, folder, Path(temporary) / precision, sparsity=options.sparsity, epochs=options.epochs,
                    precision=precision)
                for precision in ("fp32", "int8")
            )  # fmt: skip
        right = [round((r.accuracy.compressed.top1_restricted or 0) * r.accuracy.n) for r in (float32, int8)]
        found = int8.quantisation
        rows.append(
            {
                "model": case,
                "images": int8.accuracy.n,
                "untouched": round((int8.accuracy.dense.top1_restricted or 0) * int8.accuracy.n),
                "float32": right[0],
                "int8": right[1],
                "points": 100 * (right[1] - right[0]) / int8.accuracy.n,
                "ranges by": found and found.method,
                "layers in float32": found and found.layers_float32,
                "epochs in int8": found and found.epochs,
                "bytes, float32": float32.file.bytes,
                "bytes, int8": int8.file.bytes,
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
