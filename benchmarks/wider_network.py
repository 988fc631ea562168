"""A network wider than its task, and one that is widened first: what is left of their answers at few MACs.

python -m benchmarks.wider_network [--width 64] [--set 100] [--folder wider] [--only plain-0.1] [--device cuda]

Trains a ResNet-18 of that width from scratch on CIFAR-100's classes (set 100: all hundred; others: ten of them),
exports it, and removes channels at some shares of its MACs. Then the same network at twice its width, widened so that
it answers as before (Net2Net, arXiv 1511.05641), comes down to as many MACs: network augmentation, then relaxation. The
training goes on where it was stopped, and rows whose report stands in the folder are not run again, so that several
programs may run a row each; `--only none` trains alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.real_data import CIFAR_PREPROCESS, EVERY, CifarImages, class_set, data_folder
from benchmarks.record import card, record
from benchmarks.resnet18 import ResNet18
from crisp_onnx import Recipe, compress
from crisp_onnx.report.schema import from_json

MEAN, SPREAD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
SHARES, WIDENED_SHARES = (0.25, 0.1, 0.05), (0.1, 0.05)
WIDER, LANES = 2, 4
BATCH, RATE, DECAY = 64, 0.05, 5e-4
NOISE = 0.02
"""Of a widened layer's weights, in their own spread: without it both halves would learn the same."""
OUTPUTS = 100


def widened(model: ResNet18, width: int) -> ResNet18:
    """A network of `WIDER` times the width that answers alike but for a little noise.

    Every channel stands there so many times, and what reads them takes a share of each.
    """
    wide, old = ResNet18(WIDER * width, OUTPUTS), model.state_dict()
    found = {}
    for name, new in wide.state_dict().items():
        value = old[name]
        for axis, (before, after) in enumerate(zip(value.shape, new.shape, strict=True)):
            if before != after:
                value = torch.cat([value] * WIDER, axis) / (WIDER if axis == 1 else 1)
        if value.ndim > 1:
            value = value + NOISE * value.std() * torch.randn_like(value)
        found[name] = value
    wide.load_state_dict(found)
    return wide


def train(model: ResNet18, images: CifarImages, epochs: int, device: str, state: Path) -> None:
    """SGD with a cosine, shifted crops and mirror images; `state` holds what an earlier run has come to."""
    pairs = list(images)
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in pairs]).transpose(0, 3, 1, 2).astype(np.float32) / 255)
    pixels = ((pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]).to(device)
    labels = torch.tensor([label for _, label in pairs], device=device)
    per_epoch = len(pairs) // BATCH
    model.to(device).train()
    solver = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(solver, RATE, total_steps=epochs * per_epoch, pct_start=0.15)
    first = 0
    if state.exists():
        kept = torch.load(state, weights_only=True, map_location=device)
        first = kept["epoch"]
        for part, own in ((model, "model"), (solver, "solver"), (schedule, "schedule")):
            part.load_state_dict(kept[own])
    for epoch in range(first, epochs):
        random = torch.Generator().manual_seed(epoch)
        for chosen in torch.randperm(len(pairs), generator=random)[: per_epoch * BATCH].split(BATCH):
            loss = functional.cross_entropy(model(_moved(pixels[chosen], random)), labels[chosen], label_smoothing=0.1)
            solver.zero_grad()
            loss.backward()
            solver.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {float(loss):.3f}", flush=True)
        parts = {"model": model.state_dict(), "solver": solver.state_dict(), "schedule": schedule.state_dict()}
        torch.save({"epoch": epoch + 1, **parts}, state)
    model.cpu().eval()


def _moved(batch: Tensor, random: torch.Generator) -> Tensor:
    top, left = (int(torch.randint(0, 9, (), generator=random)) for _ in range(2))
    shown = functional.pad(batch, (4, 4, 4, 4))[:, :, top : top + 32, left : left + 32]
    return shown.flip(-1) if torch.rand((), generator=random) < 0.5 else shown


def export(model: ResNet18, path: Path) -> None:
    """ONNX with its BatchNormalization nodes and an open batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its other exporter is newer; that one folds BatchNorm
        torch.onnx.export(
            model, (torch.zeros(2, 3, 32, 32),), str(path), input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip


@click.command()
@click.option("--width", default=64, show_default=True, help="Channels of the first stage.")
@click.option("--set", "number", default=EVERY, show_default=True, help="Of classes; 100: all.")
@click.option("--train-epochs", default=60, show_default=True)
@click.option("--epochs", default=20, show_default=True, help="Of the compressed network.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--only", multiple=True, metavar="NETWORK-SHARE", help="Rows to run; all when none is named.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("wider"), show_default=True)
def main(
    width: int, number: int, train_epochs: int, epochs: int, device: str, only: tuple[str, ...], folder: Path
) -> None:
    """Train, compress what is not compressed yet, print and write the table."""
    data, classes = data_folder(), class_set(number)
    folder = folder / f"{width}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    train_on, judged = (CifarImages(data, part, classes) for part in ("train", "test"))
    model = ResNet18(width, OUTPUTS)
    torch.manual_seed(0)
    plain, wide = folder / "plain.onnx", folder / "widened.onnx"
    if not (plain.exists() and wide.exists()):
        train(model, train_on, train_epochs, device, folder / "training.pt")
        export(model, plain)
        export(widened(model, width).eval(), wide)
    rows = []
    for path, shares, times in ((plain, SHARES, 1), (wide, WIDENED_SHARES, WIDER**2)):
        for share in shares:
            output = folder / f"{path.stem}-{share:g}"
            if not (output / "report.json").exists():
                if only and output.name not in only:
                    continue
                recipe = Recipe(
                    model=path, classes=classes, preprocess=CIFAR_PREPROCESS, method="channels", macs=share / times,
                    epochs=epochs, round_channels=LANES, device=device, output=output,
                )  # fmt: skip
                compress(recipe, data=train_on, eval_data=judged, resume=True)
            rows.append(_row(path.stem, output, times))
            print(rows[-1], flush=True)
    if rows:
        notes = [
            f"{train_epochs} epochs from scratch, {epochs} with fewer channels, widths multiples of {LANES}; logits "
            f"restricted to the classes. Trained on: {card(device) or 'the processor'}.",
            f"Shares of MACs are of the network of width {width}; 'widened' comes down from {WIDER} times that width.",
        ]
        record(
            f"wider_network_{width}_{number}", f"A ResNet-18 of width {width}, trained for {len(classes)} classes",
            rows, notes=notes,
        )  # fmt: skip


def _row(network: str, output: Path, times: int) -> Mapping[str, object]:
    """A line of the table; `times`: how many times the MACs of the plain network this one began with."""
    report = from_json((output / "report.json").read_text(encoding="utf-8"))
    n = report.accuracy.n
    dense, left = (
        round((one.top1_restricted or 0.0) * n) for one in (report.accuracy.dense, report.accuracy.compressed)
    )
    return {
        "network": network, "share of MACs": report.macs.kept_ratio * times,
        "file kB": report.file.bytes / 1000, "of": n, "dense right": dense, "right": left,
        "points": round(100 * (left - dense) / n, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
