"""The folder of real models and images that benchmarks measure on: where it is, and CIFAR-100 out of its mosaics."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

CIFAR_PREPROCESS = "mean=0.5071/0.4865/0.4409,std=0.2673/0.2564/0.2762,size=32"
RESNET = "resnet18w32_cifar100.onnx"
EVERY = 100
"""The number of the set of all hundred classes."""


def data_folder() -> Path:
    """$CRISP_ONNX_DATA, or shared/data beside the repository; ends the program where there is none."""
    folder = Path(os.environ.get("CRISP_ONNX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"No folder of real models and images at {folder}. Set CRISP_ONNX_DATA.")
    return folder


def cifar_names(folder: Path) -> tuple[str, ...]:
    """The hundred class names in the order of the outputs."""
    return tuple((folder / "cifar100_labels.txt").read_text().split())


def class_set(number: int, drawn: int = 10) -> tuple[int, ...]:
    """So many of a hundred classes, drawn with seed `number`, or `EVERY` class."""
    if number == EVERY:
        return tuple(range(100))
    return tuple(int(i) for i in np.random.default_rng(number).choice(100, drawn, replace=False))


class CifarImages:
    """Pairs of (uint8 image 32x32x3, output index); can be gone through again. `per_class`: at most so many a class."""

    def __init__(self, folder: Path, split: str, classes: Sequence[int], per_class: int | None = None) -> None:
        self.folder, self.split, self.classes, self.per_class = folder, split, tuple(classes), per_class

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
        names = cifar_names(self.folder)
        for index in self.classes:
            mosaic = np.asarray(
                Image.open(self.folder / "cifar100" / self.split / f"{names[index]}.webp").convert("RGB")
            )
            side = mosaic.shape[0] // 32
            tiles = mosaic.reshape(side, 32, side, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
            for tile in tiles[: self.per_class]:
                yield tile, index
