"""What images synthesised from the model are worth: their saliency against that of real images, beside noise.

    python benchmarks/data_free.py [--models resnet18w32_cifar100,mobilenetv1_imagenet]

For each weight layer, the Spearman rank correlation over all weights of the CRISP saliency with that from real images,
from synthetic ones, from smoothed noise, and from other real images of the same classes, which bounds what can be had.
Then the one-shot accuracy of the masks that each gives (BatchNorm statistics re-estimated on the same images), on
evaluation images with the logits restricted to the ten classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from real_data import CIFAR_PREPROCESS, CifarImages, class_set, data_folder
from record import record

from crisp_onnx import Recipe
from crisp_onnx.api.prepare import Prepared, find_classes, find_labels, find_preprocess, prepare
from crisp_onnx.api.task import make_task
from crisp_onnx.bridge import GraphModule, prepared_for, to_torch
from crisp_onnx.data import Classes, Images, open_images
from crisp_onnx.data.synthesis import synthesise
from crisp_onnx.model import load
from crisp_onnx.recover import Task, plan_from, put_masks, reestimate
from crisp_onnx.saliency import gradient_means

CPU = torch.device("cpu")


def noise_like(images: Images, classes: Classes, seed: int = 0) -> list[tuple[np.ndarray, int]]:  # type: ignore[type-arg]
    """As many images of smoothed noise, labelled in turn."""
    rng = np.random.default_rng(seed)
    height, width = images.preprocess.size
    pairs = []
    for number in range(len(images)):
        coarse = rng.normal(0, 1, (height // 4 + 1, width // 4 + 1, images.preprocess.channels))
        smooth = coarse.repeat(4, 0).repeat(4, 1)[:height, :width]
        pairs.append((np.clip(128 + 50 * smooth, 0, 255).astype(np.uint8), classes.indices[number % len(classes)]))
    return pairs


def spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    """Rank correlation over all weights of a layer (ties are rare and split by position)."""
    ranks = [tensor.flatten().argsort().argsort().double() for tensor in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def one_shot(prepared: Prepared, task: Task, statistics: dict[str, torch.Tensor], own: Images, judged: Images) -> float:
    """Share of `judged` answered rightly among the classes, with masks from `statistics`."""
    module = prepared_for(CPU, to_torch(prepared.model))
    put_masks(module, plan_from(module, statistics, task, task.budget))
    reestimate(module, own, batch_size=32)
    return accuracy(module, task, judged)


def accuracy(module: GraphModule, task: Task, judged: Images) -> float:
    right = 0
    with torch.no_grad():
        for inputs, labels in judged.batches(50):
            among = module(torch.from_numpy(inputs)).flatten(1)[:, list(task.classes)].argmax(1).numpy()
            right += int((np.asarray(task.classes)[among] == labels).sum())
    return right / len(judged)


def measure(folder: Path, name: str, per_class: int, sparsity: float) -> list[dict[str, object]]:
    """A row per source of images."""
    cifar = "cifar" in name
    path = folder / "models" / f"{name}.onnx"
    synsets = tuple(sorted(p.name for p in (folder / "imagenette" / "val").iterdir()))
    recipe = Recipe(model=path, classes=class_set(0) if cifar else synsets, sparsity=sparsity)
    preprocess = find_preprocess(CIFAR_PREPROCESS if cifar else "signed", load(path))
    prepared = prepare(path, size=preprocess.size[0])
    labels = None if cifar else find_labels(folder / "imagenet_labels.txt", prepared)
    classes = find_classes(recipe.classes, labels, prepared.outputs)
    task = make_task(recipe, prepared, classes)
    source = CifarImages(folder, "train", classes.indices) if cifar else folder / "imagenette" / "train"
    judge = CifarImages(folder, "test", classes.indices) if cifar else folder / "imagenette" / "val"
    real = open_images(source, classes, labels, preprocess)
    judged = open_images(judge, classes, labels, preprocess)
    assert real.labels is not None
    places = [np.flatnonzero(real.labels == index) for index in classes.indices]
    reference = real.subset(np.concatenate([p[:per_class] for p in places]))
    other = real.subset(np.concatenate([p[per_class : 2 * per_class] for p in places]))
    module = prepared_for(CPU, to_torch(prepared.model))
    synthetic = synthesise(module, classes, preprocess)
    noise = open_images(noise_like(synthetic, classes), classes, None, preprocess)
    expected = gradient_means(module, task.weights, reference, classes.indices, batch_size=32).absolute
    rows = []
    for kind, images in (("other real images", other), ("synthesised", synthetic), ("smoothed noise", noise)):
        found = gradient_means(module, task.weights, images, classes.indices, batch_size=32).absolute
        weights = {key: value.detach().abs() for key, value in module.named_parameters()}
        correlation = [spearman(found[key] * weights[key], expected[key] * weights[key]) for key in task.weights]
        rows.append(
            {
                "model": name,
                "saliency from": kind,
                "images": len(images),
                "rank correlation, mean": float(np.mean(correlation)),
                "worst layer": float(np.min(correlation)),
                "one-shot accuracy": one_shot(prepared, task, found, images, judged),
                "untouched": accuracy(module, task, judged),
                "sparsity": sparsity,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet18w32_cifar100,mobilenetv1_imagenet")
    parser.add_argument("--per-class", type=int, default=32)
    parser.add_argument("--sparsity", type=float, default=0.6)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in options.models.split(","):
        rows += measure(data_folder(), name, options.per_class, options.sparsity)
        record("data_free", "Saliency without data", rows, notes=["2:4, block 16, V 8, no fine-tuning."])


if __name__ == "__main__":
    main()
