"""What a compression without training costs, stage by stage: ResNet-50 at 224x224 with 256 images, and a small ResNet.

    python -m benchmarks.one_shot_cost [--only resnet18w32_cifar100]

ResNet-50 has the published shapes and seeded weights, and learns from 256 photographs of Imagenette under classes that
mean nothing to it: what is measured is time. Nothing else should run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import numpy as np
import onnx
from PIL import Image

from benchmarks.network import Sparsity
from benchmarks.real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from benchmarks.record import record
from benchmarks.topologies import resnet50
from crisp_onnx import Recipe, Report, compress
from crisp_onnx.format import Pattern

IMAGES, CLASSES, SIDE = 256, 10, 224
SPARSITY = 0.875


def small_resnet(folder: Path, output: Path) -> Report:
    """`resnet18w32_cifar100` on all images of class set 0."""
    classes = class_set(0)
    recipe = Recipe(
        model=folder / "models" / RESNET, classes=classes, preprocess=CIFAR_PREPROCESS, sparsity=SPARSITY, epochs=0,
        target="portable", output=output,
    )  # fmt: skip
    return compress(recipe, data=CifarImages(folder, "train", classes))


def large_resnet(folder: Path, output: Path) -> Report:
    """ResNet-50 on 256 photographs."""
    path = output.parent / "resnet50.onnx"
    onnx.save(resnet50(Sparsity(Pattern(4, 4, 16, 8), 1.0), hybrid=False), path)
    photographs = sorted((folder / "imagenette" / "train").rglob("*.*"))
    chosen = np.random.default_rng(0).permutation(len(photographs))[:IMAGES]
    pairs = [
        (np.asarray(Image.open(photographs[place]).convert("RGB").resize((SIDE, SIDE))), number % CLASSES)
        for number, place in enumerate(chosen)
    ]
    recipe = Recipe(
        model=path, classes=tuple(range(CLASSES)), preprocess="imagenet", sparsity=SPARSITY, epochs=0,
        target="portable", output=output,
    )  # fmt: skip
    return compress(recipe, data=pairs)


MODELS: Mapping[str, Callable[[Path, Path], Report]] = {
    "resnet18w32_cifar100": small_resnet,
    "resnet50": large_resnet,
}


@click.command()
@click.option("--only", type=click.Choice(list(MODELS)))
def main(only: str | None) -> None:
    """Measure and write the table."""
    rows = []
    for name, run in MODELS.items():
        if only in (None, name):
            with tempfile.TemporaryDirectory() as temporary:
                report = run(data_folder(), Path(temporary) / "out")
            stages = {f"{stage}, s": round(spent, 1) for stage, spent in report.timings_s.items()}
            rows.append({"model": name, **stages, "all, s": round(sum(report.timings_s.values()), 1)})
            print(rows[-1], flush=True)
    notes = [f"{SPARSITY:.1%} sparse, 2:4, block 16, V 8; no training, so masks stands for masks and least squares."]
    record("one_shot_cost" if only is None else f"one_shot_cost_{only}", "Without training: seconds", rows, notes=notes)


if __name__ == "__main__":
    main()
