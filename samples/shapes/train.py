"""Draw shapes, train a small U-Net to tell them apart pixel by pixel and export it, with images and labels, in minutes.

    python samples/shapes/train.py --output shapes

Writes shapes.onnx (BatchNorm kept, dynamic batch), {train,val}/images/*.png, {train,val}/labels/*.png (the pixels are
output indices), labels.txt and cls.txt.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from math import cos, pi, sin
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

NAMES = ("background", "disc", "square", "triangle", "ring", "cross")
CLASSES = ("background", "disc", "triangle", "ring")
COLOURS = ((40, 40, 40), (220, 60, 60), (60, 120, 220), (70, 180, 90), (230, 190, 60), (170, 90, 200))
SIDE = 48
NOISE = 20.0
Pixels = npt.NDArray[np.uint8]
Ink = int | tuple[int, int, int]


class UNet(nn.Module):
    """Three levels with skips; two go up by transposed convolutions, one by interpolation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.second = _stage(3, width), _stage(width, 2 * width)
        self.third, self.deep = _stage(2 * width, 4 * width), _stage(4 * width, 8 * width)
        self.up1 = nn.ConvTranspose2d(8 * width, 4 * width, 2, 2)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.wide, self.middle = _stage(8 * width, 4 * width), _stage(4 * width, 2 * width)
        self.leave, self.out = _stage(3 * width, width), nn.Conv2d(width, len(NAMES), 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.second(functional.max_pool2d(first, 2))
        third = self.third(functional.max_pool2d(second, 2))
        deep = self.deep(functional.max_pool2d(third, 2))
        wide = self.wide(torch.cat([self.up1(deep), third], 1))
        middle = self.middle(torch.cat([self.up2(wide), second], 1))
        large = functional.interpolate(middle, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.out(self.leave(torch.cat([large, first], 1)))


def _stage(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for cin in (inside, outside):
        layers += [nn.Conv2d(cin, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


def draw(count: int, seed: int) -> tuple[Pixels, Pixels]:
    """Images (count, 48, 48, 3) and the class of each pixel (count, 48, 48).

    Two to four shapes an image, of any colour and turn, one over the other, under noise.
    """
    random = np.random.default_rng(seed)
    pairs = [_scene(random) for _ in range(count)]
    return np.stack([image for image, _ in pairs]), np.stack([label for _, label in pairs])


def _scene(random: np.random.Generator) -> tuple[Pixels, Pixels]:
    ground = np.linspace(random.uniform(0, 255, 3), random.uniform(0, 255, 3), SIDE)
    image = Image.fromarray(np.broadcast_to(ground[:, None], (SIDE, SIDE, 3)).astype(np.uint8))
    label = Image.new("L", (SIDE, SIDE))
    on_image, on_label = ImageDraw.Draw(image), ImageDraw.Draw(label)
    for _ in range(random.integers(2, 5)):
        kind = int(random.integers(1, len(NAMES)))
        place = (*random.uniform(6, SIDE - 6, 2), random.uniform(7, 14), random.uniform(0, 2 * pi))
        colour = tuple(map(int, random.integers(0, 256, 3)))
        _SHAPES[kind](on_image, *place, (colour[0], colour[1], colour[2]))
        _SHAPES[kind](on_label, *place, kind)
    noisy = np.asarray(image) + random.normal(0, NOISE, (SIDE, SIDE, 3))
    return noisy.clip(0, 255).astype(np.uint8), np.asarray(label)


def _disc(on: ImageDraw.ImageDraw, x: float, y: float, radius: float, turn: float, ink: Ink) -> None:
    on.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _ring(on: ImageDraw.ImageDraw, x: float, y: float, radius: float, turn: float, ink: Ink) -> None:
    on.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=4)


def _regular(corners: int) -> Callable[[ImageDraw.ImageDraw, float, float, float, float, Ink], None]:
    def shape(on: ImageDraw.ImageDraw, x: float, y: float, radius: float, turn: float, ink: Ink) -> None:
        angles = [turn + 2 * pi * corner / corners for corner in range(corners)]
        on.polygon([(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles], fill=ink)

    return shape


def _cross(on: ImageDraw.ImageDraw, x: float, y: float, radius: float, turn: float, ink: Ink) -> None:
    for angle in (turn, turn + pi / 2):
        across, down = radius * cos(angle), radius * sin(angle)
        on.line((x - across, y - down, x + across, y + down), fill=ink, width=5)


_SHAPES = {1: _disc, 2: _regular(4), 3: _regular(3), 4: _ring, 5: _cross}


def as_input(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def train(model: nn.Module, pixels: Pixels, labels: Pixels, epochs: int) -> None:
    """Adam with a one-cycle rate; half of the batches are mirrored."""
    size = min(16, len(pixels))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=epochs * (len(pixels) // size))
    inputs, truth = as_input(pixels), torch.from_numpy(labels.astype(np.int64))
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(pixels))[: len(pixels) // size * size].split(size):
            batch, target = inputs[chosen], truth[chosen]
            if torch.rand(()) < 0.5:
                batch, target = batch.flip(-1), target.flip(-1)
            loss = functional.cross_entropy(model(batch), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def mean_iou(model: nn.Module, pixels: Pixels, labels: Pixels) -> float:
    """Intersection over union, the mean over the classes that occur."""
    with torch.no_grad():
        found = np.concatenate([model(as_input(part)).argmax(1).numpy() for part in np.array_split(pixels, 8)])
    shares = []
    for number in range(len(NAMES)):
        either = (found == number) | (labels == number)
        if either.any():
            shares.append(((found == number) & (labels == number)).sum() / either.sum())
    return float(np.mean(shares))


def export(model: nn.Module, path: Path) -> None:
    """ONNX at opset 17 with its BatchNormalization nodes and an open batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its other exporter is newer; that one folds BatchNorm
        torch.onnx.export(
            model, (torch.zeros(2, 3, SIDE, SIDE),), str(path), input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip


def write_pairs(folder: Path, pixels: Pixels, labels: Pixels) -> None:
    """PNG files of one stem in images/ and labels/; the labels have a palette, so that people see them too."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{number:04d}.png")
        indexed = Image.fromarray(label)
        indexed.putpalette([value for colour in COLOURS for value in colour])
        indexed.save(folder / "labels" / f"{number:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("shapes"))
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--images", type=int, default=800, help="to train on; a quarter as many to judge by")
    parser.add_argument(
        "--width", type=int, default=16, help="channels of the first stage; the deepest has eight times"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    train_x, train_y = draw(options.images, seed=0)
    val_x, val_y = draw(max(1, options.images // 4), seed=1)
    model = UNet(options.width)
    train(model, train_x, train_y, options.epochs)
    options.output.mkdir(parents=True, exist_ok=True)
    export(model, options.output / "shapes.onnx")
    write_pairs(options.output / "train", train_x, train_y)
    write_pairs(options.output / "val", val_x, val_y)
    (options.output / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    (options.output / "cls.txt").write_text("# what this user meets\n" + "".join(f"{name}\n" for name in CLASSES))
    print(
        f"Trained on {len(train_x)} images; mean IoU {100 * mean_iou(model, val_x, val_y):.1f} % on {len(val_x)} new "
        f"ones. Written to {options.output}."
    )


if __name__ == "__main__":
    main()
