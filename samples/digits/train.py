"""Train a small residual CNN on scikit-learn's scanned digits and export it, with images and a class list, in a minute.

    python samples/digits/train.py --output demo

Writes digits.onnx (BatchNorm kept, dynamic batch), images/{train,val}/<digit>/*.png, labels.txt and cls.txt.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

CLASSES = ("3", "5", "8")
SIDE = 32
Pixels = npt.NDArray[np.uint8]


class Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut; `stride` 2 halves the image."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.down(x))


def network() -> nn.Sequential:
    """About 0.6 million parameters; input (n, 1, 32, 32), output (n, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2), Residual(128, 128, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def scans() -> tuple[Pixels, npt.NDArray[np.int64]]:
    """The 1,797 scans of 8x8 pixels, enlarged to 32x32: (n, 32, 32) uint8 and their digits (n,)."""
    digits = load_digits()
    small = np.round(digits.images * 255 / 16).astype(np.uint8)
    large = [np.asarray(Image.fromarray(scan).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for scan in small]
    return np.stack(large), digits.target.astype(np.int64)


def as_input(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels[:, None].astype(np.float32) / 255)


def train(model: nn.Module, pixels: Pixels, digits: npt.NDArray[np.int64], epochs: int) -> None:
    """Adam with a one-cycle rate and crops shifted by two pixels."""
    steps = epochs * (len(pixels) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(pixels))[: len(pixels) // 64 * 64].split(64):
            padded = functional.pad(as_input(pixels[chosen.numpy()]), (2, 2, 2, 2))
            top, left = torch.randint(0, 5, (2,)).tolist()
            logits = model(padded[:, :, top : top + SIDE, left : left + SIDE])
            loss = functional.cross_entropy(logits, torch.from_numpy(digits[chosen.numpy()]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def export(model: nn.Module, path: Path) -> None:
    """ONNX at opset 17 with its BatchNormalization nodes and an open batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its other exporter is newer; that one folds BatchNorm
        torch.onnx.export(
            model, (torch.zeros(2, 1, SIDE, SIDE),), str(path), input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip


def write_images(folder: Path, pixels: Pixels, digits: npt.NDArray[np.int64]) -> None:
    for number, (scan, digit) in enumerate(zip(pixels, digits, strict=True)):
        path = folder / str(digit) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scan).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    torch.manual_seed(0)
    pixels, digits = scans()
    train_x, val_x, train_y, val_y = train_test_split(pixels, digits, test_size=0.3, random_state=0, stratify=digits)
    model = network()
    train(model, train_x, train_y, options.epochs)
    with torch.no_grad():
        right = int((model(as_input(val_x)).argmax(1).numpy() == val_y).sum())
    options.output.mkdir(parents=True, exist_ok=True)
    export(model, options.output / "digits.onnx")
    write_images(options.output / "images" / "train", train_x, train_y)
    write_images(options.output / "images" / "val", val_x, val_y)
    (options.output / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    (options.output / "cls.txt").write_text("# the digits that this user meets\n" + "".join(f"{c}\n" for c in CLASSES))
    print(f"Trained on {len(train_x)} scans; {right} of {len(val_x)} new ones right. Written to {options.output}.")


if __name__ == "__main__":
    main()
