"""Torch-Pruning on resnet18w32_cifar100 at given shares of the MACs, trained as `channels_curve` trains ours.

python -m benchmarks.torch_pruning_curve --share 0.25 [--importance taylor] [--epochs 10] [--device cuda]

Run in an environment of its own with torch, torch-pruning, onnx, numpy, Pillow and click. All hundred classes, the same
images, batch, rates, augmentation, labels and teacher; channels go globally in steps that keep widths multiples of 8,
and no layer loses more than nine tenths. Rows that results/torch_pruning_curve.json holds are not run again.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator

import click
import numpy as np
import onnx
import torch
import torch_pruning
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.real_data import EVERY, RESNET, CifarImages, class_set, data_folder
from benchmarks.record import RESULTS, card, record
from benchmarks.resnet18 import ResNet18
from benchmarks.torch_pruning_coverage import macs_of

MEAN, SPREAD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMPORTANCES = {
    "taylor": torch_pruning.importance.GroupTaylorImportance,
    "norm": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
}
LANES, MOST, STEPS = 8, 0.9, 50
BATCH, RATE, DECAY, SMOOTHING, TEMPERATURE, IMITATION = 64, 0.05, 5e-4, 0.05, 2.0, 2.0
HELD_OUT, ASKED = 0.1, 256


@click.command()
@click.option("--share", "shares", type=float, multiple=True, required=True, help="Of the MACs that are left.")
@click.option(
    "--importance", "importances", multiple=True, default=tuple(IMPORTANCES), type=click.Choice([*IMPORTANCES])
)
@click.option("--epochs", default=10, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(shares: tuple[float, ...], importances: tuple[str, ...], epochs: int, seed: int, device: str) -> None:
    """Prune, train, judge, and write the table after every row."""
    path = RESULTS / "torch_pruning_curve.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    train, labels = images("train", device)
    test, truth = images("test", device)
    for share in shares:
        for importance in importances:
            if any(
                (r["asked"], r["importance"], r["epochs"], r["seed"]) == (share, importance, epochs, seed) for r in rows
            ):
                continue
            start_s = time.monotonic()
            torch.manual_seed(seed)
            kept = np.random.default_rng(seed).permutation(len(train))[int(HELD_OUT * len(train)) :]
            own, targets = train[kept], labels[kept]
            whole = loaded(device)
            model, left = pruned(whole, importance, share, own[:ASKED], targets[:ASKED])
            finetuned(model, whole, own, targets, epochs, seed)
            rows.append(
                {
                    "importance": importance, "asked": share, "share of MACs": left, "epochs": epochs, "seed": seed,
                    "of": len(test), "untouched": right(whole, test, truth), "right": right(model, test, truth),
                    "device": card(device), "seconds": round(time.monotonic() - start_s),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
            record(
                "torch_pruning_curve", "Torch-Pruning on all hundred classes", rows,
                notes=["resnet18w32_cifar100, trained as the rows of accuracy_channels_curve are."],
            )  # fmt: skip


def images(part: str, device: str) -> tuple[Tensor, Tensor]:
    """All images (n, 3, 32, 32), normalised, and their labels (n,)."""
    pairs = list(CifarImages(data_folder(), part, class_set(EVERY)))
    pixels = torch.from_numpy(np.stack([one for one, _ in pairs]).transpose(0, 3, 1, 2).astype(np.float32) / 255)
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]
    return pixels.to(device), torch.tensor([label for _, label in pairs], device=device)


def loaded(device: str) -> ResNet18:
    """The network of the ONNX file in torch."""
    graph = onnx.load(str(data_folder() / "models" / RESNET)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in stored:  # the exporter writes equal tensors once
            stored[node.output[0]] = stored[node.input[0]].clone()
    model = ResNet18(stored["stem.weight"].shape[0], stored["fc.weight"].shape[0])
    missing = model.load_state_dict(stored, strict=False).missing_keys
    if any("num_batches" not in name for name in missing):
        raise SystemExit(f"The file of the network has other names: {missing} are missing.")
    return model.to(device).eval()


def pruned(whole: ResNet18, importance: str, share: float, shown: Tensor, labels: Tensor) -> tuple[nn.Module, float]:
    """A copy with channels removed, a little at a time, until at most that share of the MACs is left; the share."""
    model, image = copy.deepcopy(whole), shown[:1]
    pruner = torch_pruning.pruner.MetaPruner(
        model, image, importance=IMPORTANCES[importance](), global_pruning=True, pruning_ratio=MOST,
        max_pruning_ratio=MOST, iterative_steps=STEPS, round_to=LANES, ignored_layers=[model.fc],
    )  # fmt: skip
    most = sum(macs_of(whole, image).values())
    for _ in range(STEPS):
        left = sum(macs_of(model, image).values()) / most
        if left <= share:
            return model, left
        model.zero_grad()
        if importance == "taylor":
            for part, own in zip(shown.split(BATCH), labels.split(BATCH), strict=True):
                functional.cross_entropy(model(part), own).backward()
        pruner.step()
    raise SystemExit(f"Torch-Pruning leaves {left:.3f} of the MACs at least.")


def finetuned(model: nn.Module, teacher: nn.Module, pixels: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Train in place, as crisp-onnx's recovery does: labels, the whole network's answers, crops and mirror images."""
    steps = epochs * (per_epoch := len(pixels) // BATCH)
    parameters = list(model.parameters())
    solver = torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=RATE, momentum=0.9, nesterov=True,
    )  # fmt: skip
    random = torch.Generator().manual_seed(seed)
    model.train()
    for step, chosen in enumerate(_batches(len(pixels), epochs, random)):
        warm = (step + 1) / per_epoch
        late = 0.5 * (1 + math.cos(math.pi * (step - per_epoch) / max(1, steps - per_epoch)))
        for group in solver.param_groups:
            group["lr"] = RATE * (warm if step < per_epoch else late)
        batch = _moved(pixels[chosen], random)
        with torch.no_grad():
            taught = functional.log_softmax(teacher(batch) / TEMPERATURE, 1)
        given = model(batch)
        answered = functional.log_softmax(given / TEMPERATURE, 1)
        loss = functional.cross_entropy(given, labels[chosen], label_smoothing=SMOOTHING)
        imitated = functional.kl_div(answered, taught, log_target=True, reduction="batchmean")
        solver.zero_grad()
        (loss + IMITATION * TEMPERATURE**2 * imitated).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        solver.step()
    model.eval()


def _batches(count: int, epochs: int, random: torch.Generator) -> Iterator[Tensor]:
    for _ in range(epochs):
        yield from torch.randperm(count, generator=random)[: count // BATCH * BATCH].split(BATCH)


def _moved(batch: Tensor, random: torch.Generator) -> Tensor:
    padded = functional.pad(batch, (4, 4, 4, 4))
    places = torch.randint(0, 9, (len(batch), 2), generator=random).tolist()
    crops = [image[:, top : top + 32, left : left + 32] for image, (top, left) in zip(padded, places, strict=True)]
    mirrored = torch.rand(len(batch), generator=random) < 0.5
    return torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, mirrored, strict=True)])


def right(model: nn.Module, pixels: Tensor, labels: Tensor) -> int:
    """How many images are answered rightly."""
    with torch.no_grad():
        return sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(pixels.split(256), labels.split(256), strict=True)
        )


if __name__ == "__main__":
    main()
