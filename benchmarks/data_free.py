"""What images synthesised from the model are worth: their saliency against that of real images, beside noise.

    python benchmarks/data_free.py [--models resnet18w32_cifar100,mobilenetv1_imagenet] [--sparsity 0.65,0.5]

For each weight layer, the Spearman rank correlation over all weights of the CRISP saliency with that from real images,
from other real images of the same classes (which bounds what can be had), from synthetic ones, and from the smooth
noise that synthesis starts with, labelled in turn or by the model. Magnitude, which needs no images, stands beside
them. Then the one-shot accuracy of the masks that each gives, with BatchNorm statistics re-estimated on the same images
(for magnitude: on the synthetic ones), on evaluation images with the logits restricted to the ten classes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from real_data import CIFAR_PREPROCESS, CifarImages, class_set, data_folder
from record import record

from crisp_onnx import Recipe
from crisp_onnx.api.planning import make_planner, make_task
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.words import find_classes, find_preprocess
from crisp_onnx.bridge import GraphModule, prepared_for, to_torch
from crisp_onnx.data import Classes, Images, Preprocess, open_images, read_labels
from crisp_onnx.model import load
from crisp_onnx.recover import Task, put_masks, reestimate, saliency_of
from crisp_onnx.saliency import criterion_named, gradient_sums
from crisp_onnx.synthesis import effort_for, synthesise
from crisp_onnx.task import task_of

CPU = torch.device("cpu")
MODELS, SPARSITIES = "resnet18w32_cifar100,mobilenetv1_imagenet", "0.65,0.5"
# Small batches: of few images they give a mean over more gradients.
BATCH = 8
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A model with its ten classes. `real` are the training images, `judged` the evaluation images."""

    name: str
    sparsity: float
    prepared: Prepared
    task: Task
    classes: Classes
    preprocess: Preprocess
    real: Images
    judged: Images

    def module(self) -> GraphModule:
        return prepared_for(CPU, to_torch(self.prepared.model))

    def some(self, first: int, last: int) -> Images:
        """Real images `first` to `last` of every class."""
        places = [np.flatnonzero(self.real.labels == index)[first:last] for index in self.classes.indices]
        return self.real.subset(np.concatenate(places))


def make_case(folder: Path, name: str, sparsity: float) -> Case:
    cifar = "cifar" in name
    path = folder / "models" / f"{name}.onnx"
    synsets = tuple(sorted(p.name for p in (folder / "imagenette" / "val").iterdir()))
    recipe = Recipe(model=path, classes=class_set(0) if cifar else synsets, sparsity=sparsity)
    preprocess = find_preprocess(CIFAR_PREPROCESS if cifar else "signed", load(path))
    prepared = prepare(path, size=preprocess.size)
    labels = None if cifar else read_labels(folder / "imagenet_labels.txt")
    classes = find_classes(recipe.classes, labels, prepared.head.classes)
    sources = (
        (CifarImages(folder, split, classes.indices) for split in ("train", "test"))
        if cifar
        else (folder / "imagenette" / split for split in ("train", "val"))
    )
    real, judged = (open_images(source, classes, labels, preprocess) for source in sources)
    task = make_task(recipe, make_planner(recipe, prepared), task_of(prepared.head, classes.indices))
    return Case(name, sparsity, prepared, task, classes, preprocess, real, judged)


def spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    """Rank correlation over all weights of a layer (ties are rare and split by position)."""
    ranks = [tensor.flatten().argsort().argsort().double() for tensor in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def saliencies(case: Case, task: Task, images: Images) -> tuple[Tensors, Tensors]:
    """Statistic and saliency by weight name."""
    module = case.module()
    weights = {key: value.detach() for key, value in module.named_parameters() if key in task.weights}
    if task.criterion.from_gradients:
        sums = gradient_sums(module, task.weights, images, task.answers, batch_size=BATCH)
        means = sums.absolute.means()
    else:
        means = {key: torch.zeros(()) for key in weights}
    return means, {key: task.criterion.score(weight, means[key]) for key, weight in weights.items()}


def accuracy(module: GraphModule, case: Case) -> float:
    """Share of the evaluation images answered rightly among the ten classes."""
    right = 0
    with torch.no_grad():
        for inputs, labels in case.judged.batches(50):
            among = module(torch.from_numpy(inputs)).flatten(1)[:, list(case.classes.indices)].argmax(1).numpy()
            right += int((np.asarray(case.classes.indices)[among] == labels).sum())
    return right / len(case.judged)


def one_shot(case: Case, task: Task, statistics: Tensors, own: Images) -> float:
    """Accuracy under the masks that `statistics` give, BatchNorm re-estimated on `own` images."""
    module = case.module()
    put_masks(module, task.planner.plan(saliency_of(module, statistics, task)))
    reestimate(module, own, batch_size=32)
    return accuracy(module, case)


def measure(case: Case, per_class: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """A row per source of images, and a row per layer."""
    start = time.perf_counter()
    effort = effort_for(case.preprocess.size, len(case.classes), case.prepared.macs)
    synthetic = synthesise(case.module(), case.task.answers, case.preprocess, effort)
    seconds = time.perf_counter() - start
    noise = synthesise(case.module(), case.task.answers, case.preprocess, replace(effort, steps=0))
    _, expected = saliencies(case, case.task, case.some(0, per_class))
    untouched = accuracy(case.module(), case)
    rows: list[dict[str, object]] = []
    layers: list[dict[str, object]] = [{"model": case.name, "weight": weight} for weight in case.task.weights]
    for kind, images, criterion in (
        ("other real images", case.some(per_class, 2 * per_class), "crisp"),
        ("synthesised", synthetic, "crisp"),
        ("noise, labels in turn", noise, "crisp"),
        ("noise, labels of the model", replace(noise, labels=None), "crisp"),
        ("magnitude, no images", synthetic, "magnitude"),
    ):
        task = replace(case.task, criterion=criterion_named(criterion))
        statistics, found = saliencies(case, task, images)
        correlation = [spearman(found[weight], expected[weight]) for weight in case.task.weights]
        for layer, value in zip(layers, correlation, strict=True):
            layer[kind] = value
        rows.append(
            {
                "model": case.name,
                "sparsity": case.sparsity,
                "saliency from": kind,
                "images": len(images) if criterion == "crisp" else 0,
                "rank correlation, mean": float(np.mean(correlation)),
                "worst layer": float(np.min(correlation)),
                "one-shot accuracy": one_shot(case, task, statistics, images),
                "untouched": untouched,
                "synthesis, s": seconds if images is synthetic and criterion == "crisp" else None,
            }
        )
    return rows, layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--per-class", type=int, default=32, help="real images a class")
    parser.add_argument("--sparsity", default=SPARSITIES, help="of the prunable weights, a number a model")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    layers: list[dict[str, object]] = []
    for name, sparsity in zip(options.models.split(","), options.sparsity.split(","), strict=True):
        case = make_case(data_folder(), name, float(sparsity))
        more_rows, more_layers = measure(case, options.per_class)
        rows, layers = rows + more_rows, layers + more_layers
        notes = [
            "2:4, block 16, V 8, no fine-tuning; sparsity: of the prunable weights.",
            f"Reference: saliency from {options.per_class} real training images a class, batches of {BATCH}. Accuracy: "
            "evaluation images, logits restricted to ten classes; chance is 0.1.",
        ]
        record("data_free", "Saliency without data", rows, notes=notes)
        record("data_free_layers", "Saliency without data: rank correlation by layer", layers)


if __name__ == "__main__":
    main()
