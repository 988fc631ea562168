"""`same_elsewhere.py ROAD FOLDER`: compress a small model on two devices, each way of a road; names what differs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from other_device import another_device, registered
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress, compress_nested, make_bank
from crisp_onnx.recipe import NESTED, RECOVERIES
from crisp_onnx.recover import loop

QUICK = "quick"
ROADS: dict[str, tuple[dict[str, Any], ...]] = {
    QUICK: (
        {"sparsity": 0.6, "epochs": 1, "patience": 1},
        {"method": "channels", "macs": 0.5, "round_channels": 4, "epochs": 2, "widths": "gates"},
    ),
    "one-shot": (
        {"sparsity": 0.6},
        {"sparsity": 0.6, "masks": "obs", "saliency": "wanda"},
        {"sparsity": 0.6, "masks": "saliency", "allocation": "sensitivity", "saliency": "act-l2"},
        {"sparsity": 0.6, "allocation": "saliency", "saliency": "firing", "reconstruct": "none"},
        {"sparsity": 0.6, "precision": "int8"},
    ),
    "channels": (
        {"method": "channels", "macs": 0.5, "round_channels": 4, "epochs": 1},
        {"method": "channels+hybrid", "macs": 0.3, "round_channels": 4},
    ),
    "recovery": (
        {"sparsity": 0.6, "epochs": 1, "first_finetune": 1, "patience": 1, "saliency": "fisher"},
        *({"sparsity": 0.6, "epochs": 1, "recovery": mode} for mode in RECOVERIES if mode not in (NESTED, "fixed")),
        {"sparsity": (0.5, 0.7), "epochs": 1, "recovery": NESTED},
    ),
}
IMAGES, JUDGED = coloured_images(6), coloured_images(2, 1)


def compressed(source: Path, options: dict[str, Any], device: str, folder: Path) -> dict[str, bytes]:
    """Every stored tensor of the model, the sparsest where there are several."""
    recipe = Recipe(
        **{"epochs": 0, **options}, model=source, classes=(0, 2, 4), preprocess="unit", target="portable",
        device=device, output=folder,
    )  # fmt: skip
    (compress_nested if recipe.sparsities else compress)(recipe, data=IMAGES, eval_data=JUDGED)
    written = onnx.load(sorted(folder.glob("**/model.onnx"))[-1])
    return {tensor.name: tensor.raw_data for tensor in written.graph.initializer}


def bank(source: Path, device: str, output: Path) -> bytes:
    make_bank(source, data=IMAGES, output=output, preprocess="unit", device=device)
    return output.read_bytes()


def main(road: str, folder: Path) -> None:
    registered()  # before anything is differentiated: torch counts the devices then
    # As the processor trains where it has no bfloat16, so that both devices give the same.
    loop.autocast = lambda device: torch.autocast("cpu", torch.bfloat16, enabled=False)
    source = residual_classifier(folder / "small.onnx")
    for number, options in enumerate(ROADS[road]):
        with another_device() as device:
            there = compressed(source, options, device, folder / f"{number}-there")
        if there != compressed(source, options, "cpu", folder / f"{number}-here"):
            print("Another model:", options)
    with another_device() as device:
        there_sums = bank(source, device, folder / "there.safetensors")
    if there_sums != bank(source, "cpu", folder / "here.safetensors"):
        print("Another bank.")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
