"""Accuracy at 87.5 % sparsity on ten of a hundred classes, beside the untouched and a fine-tuned dense model.

    python benchmarks/class_sets.py [--sets 0,1,2] [--epochs 20] [--sparsity 0.875]

All three are judged on the same test images with the logits restricted to the ten classes: a comparison over all
hundred outputs would flatter whatever was fine-tuned. The dense model is fine-tuned by the very same recipe with masks
that keep everything.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from math import prod
from pathlib import Path

import torch
from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, cifar_names, class_set, data_folder
from record import record

from crisp_onnx import Recipe, compress
from crisp_onnx.api.crossing import BATCHES
from crisp_onnx.api.planning import make_planner, make_task
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.sight import HELD_OUT
from crisp_onnx.api.words import find_classes, find_preprocess
from crisp_onnx.bridge import to_torch, write_back
from crisp_onnx.data import hold_out, open_images
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Threshold
from crisp_onnx.model import save
from crisp_onnx.reconstruct import Refitted
from crisp_onnx.recover import MODES, NoKeeper, Training
from crisp_onnx.runtime.evaluate import compare_on, open_stock
from crisp_onnx.task import task_of


def compressed(recipe: Recipe, folder: Path, classes: tuple[int, ...]) -> dict[str, object]:
    """One run of the public function, timed whole."""
    start = time.perf_counter()
    report = compress(
        recipe, data=CifarImages(folder, "train", classes), eval_data=CifarImages(folder, "test", classes)
    )
    spent = time.perf_counter() - start
    n = report.accuracy.n
    dense, ours = report.accuracy.dense.top1_restricted or 0.0, report.accuracy.compressed.top1_restricted or 0.0
    return {
        "untouched, of 1,000": round(dense * n),
        "dense, same recipe": None,
        "compressed": round(ours * n),
        "sparsity": report.sparsity.weights,
        "MACs kept": report.macs.kept_ratio,
        "file": report.file.bytes / report.file.bytes_dense,
        "seconds": round(spent),
        "images": n,
    }


def dense_by_the_same_recipe(recipe: Recipe, folder: Path, classes: tuple[int, ...]) -> int:
    """Right answers, among the ten classes, of the dense model fine-tuned exactly as the compressed one was."""
    preprocess = find_preprocess(recipe.preprocess, prepare(recipe.model).source)
    prepared = prepare(recipe.model, size=preprocess.size)
    chosen = find_classes(recipe.classes, None, prepared.head.classes)
    answers = task_of(prepared.head, chosen.indices)
    candidates = replace(
        make_planner(recipe, prepared).candidates, pattern=Pattern(4, 4, recipe.block, recipe.vector_rows)
    )
    everything = make_task(recipe, Threshold(candidates, 1.0), answers)
    images = open_images(CifarImages(folder, "train", classes), chosen, None, preprocess)
    images, _ = hold_out(images, HELD_OUT, seed=recipe.seed)
    module = to_torch(prepared.model)
    torch.manual_seed(recipe.seed)
    ones = {name: torch.ones_like(dict(module.named_parameters())[name]) for name in everything.weights}
    training = Training(recipe.epochs or 0, BATCHES[prepared.task](prod(prepared.size)), flip=True, seed=recipe.seed)
    MODES[recipe.recovery].recover(
        module, images, ones, everything, training, lambda module, plan: Refitted(plan), NoKeeper()
    )
    judged = open_images(CifarImages(folder, "test", classes), chosen, None, preprocess)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "dense.onnx"
        save(write_back(module, prepared.model), path)
        sessions = (open_stock(recipe.model), open_stock(path))
        return compare_on(sessions, (answers, answers), judged).counts[1].right_restricted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sparsity", type=float, default=0.875)
    parser.add_argument("--saliency", default="crisp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-dense", action="store_true", help="leave out the fine-tuned dense model")
    parser.add_argument("--name", default="class_sets", help="of the files in benchmarks/results")
    options = parser.parse_args()
    folder = data_folder()
    rows = []
    for number in map(int, options.sets.split(",")):
        classes = class_set(number)
        with tempfile.TemporaryDirectory() as temporary:
            recipe = Recipe(
                model=folder / "models" / RESNET, classes=classes, preprocess=CIFAR_PREPROCESS,
                sparsity=options.sparsity, epochs=options.epochs, saliency=options.saliency, seed=options.seed,
                target="portable", output=Path(temporary) / "out",
            )  # fmt: skip
            row: dict[str, object] = {"set": number, **compressed(recipe, folder, classes)}
            if not options.no_dense:
                row["dense, same recipe"] = dense_by_the_same_recipe(recipe, folder, classes)
        rows.append(row)
        names = cifar_names(folder)
        print(number, ", ".join(names[index] for index in classes), row, flush=True)
        record(
            options.name,
            f"resnet18w32_cifar100, ten classes, 2:4, block 16, V 8, {options.sparsity:.1%} sparse",
            rows,
            notes=[
                f"{options.epochs} epochs over 256 images a class, a tenth of them held out; seed {options.seed}.",
                f"--{'' if recipe.reorder else 'no-'}reorder --reconstruct {recipe.reconstruct} "
                f"--recovery {recipe.recovery}",
            ],
        )


if __name__ == "__main__":
    main()
