"""Class-conditional images out of the model itself: gradient descent on smooth noise until the model sees the classes.

An image is the sigmoid of a spectrum that falls with the frequency, in opponent colours, so that smooth images come
easily and pixel noise does not. Where the graph still has BatchNorm, the moments at its inputs are drawn to
the running statistics (DeepInversion, arXiv 1912.08795, equation 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.data.arrays import ArrayStore, spooled
from crisp_onnx.data.classes import Classes
from crisp_onnx.data.images import Images
from crisp_onnx.data.network import BatchNormSite, Network, batch_norm_sites, fixed_weights
from crisp_onnx.data.objective import Weights, loss, moment_distance
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.progress import bar

SOURCE = "images synthesised from the model"
START_AMPLITUDE = 0.45


@dataclass(frozen=True)
class Effort:
    """How many images a class, in batches of how many, with how many steps of which rate."""

    per_class: int = 8
    steps: int = 40
    rate: float = 0.1
    batch: int = 40


def effort_for(size: tuple[int, int]) -> Effort:
    """A minute or two on two cores: plenty of small images, fewer large ones."""
    return Effort(per_class=32, steps=100, batch=80) if size[0] * size[1] <= 64 * 64 else Effort()


def synthesise(
    network: Network,
    classes: Classes,
    preprocess: Preprocess,
    *,
    seed: int = 0,
    effort: Effort | None = None,
    weights: Weights | None = None,
) -> Images:
    """Images that `network` takes for `classes`, the same number a class; labels are the classes meant.

    `network` must be in eval mode; its weights do not change. The same seed gives the same images. They lie in a
    temporary file, as uint8 pixels in the range that `preprocess` allows.
    """
    effort = effort or effort_for(preprocess.size)
    weights = weights or Weights()
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    places = torch.arange(effort.per_class * len(classes)) % len(classes)
    sites = batch_norm_sites(network)
    pixels = []
    parts = torch.split(places, effort.batch)
    with fixed_weights(network), bar("synthesis", len(parts) * effort.steps) as advance:
        for wanted in parts:
            scene = _Scene(network, preprocess, sites, torch.tensor(classes.indices, device=device), weights)
            drawn = _descend(scene, wanted.to(device), effort, generator, advance)
            pixels.append(preprocess.pixels(_as_layout(drawn, preprocess).cpu().numpy()))
    labels = np.asarray(classes.indices, np.int64)[places.numpy()]
    height, width = preprocess.size
    store = ArrayStore(spooled(pixels, (height, width, preprocess.channels)), SOURCE)
    return Images(store, np.arange(len(places)), labels, replace(preprocess, resize=None), SOURCE)


@dataclass(frozen=True)
class _Scene:
    """What stays the same while a batch is drawn."""

    network: Network
    preprocess: Preprocess
    sites: tuple[BatchNormSite, ...]
    classes: Tensor
    weights: Weights


def _descend(
    scene: _Scene, wanted: Tensor, effort: Effort, generator: torch.Generator, advance: Callable[[int], None]
) -> Tensor:
    """Draw one batch: (b, C, H, W) in the values that the model takes."""
    painting = _Painting(scene.preprocess, len(wanted), generator, wanted.device)
    optimizer = torch.optim.Adam([painting.spectrum], effort.rate, betas=(0.9, 0.99))
    weights = scene.weights if scene.sites else replace(scene.weights, moments=0.0)
    for step in range(effort.steps):
        cosine = 0.5 * (1 + np.cos(np.pi * step / effort.steps))
        optimizer.param_groups[0]["lr"] = effort.rate * min(1.0, (step + 1) / 5) * (0.05 + 0.95 * cosine)
        shares = painting.shares()
        logits, matched = _look(scene, painting.values(shares))
        total = loss(2 * shares - 1, logits, wanted, scene.classes, matched, weights)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
    with torch.no_grad():
        return painting.values(painting.shares())


def _look(scene: _Scene, images: Tensor) -> tuple[Tensor, Tensor | float]:
    """The model's logits for images (b, C, H, W), and how far they are from the BatchNorm statistics."""
    network = scene.network
    wanted = [network.output_names[0], *(site.tensor for site in scene.sites)]
    inputs = _as_layout(images, scene.preprocess)
    seen = network.run({network.input_names[0]: inputs}, list(dict.fromkeys(wanted)))
    matched = moment_distance(seen, scene.sites) if scene.sites else 0.0
    return seen[network.output_names[0]].flatten(1), matched


def _as_layout(images: Tensor, preprocess: Preprocess) -> Tensor:
    """(b, C, H, W) in the layout of the model's input."""
    return images.permute(0, 2, 3, 1) if preprocess.layout == "NHWC" else images


class _Painting:
    """A batch of images as spectra: `spectrum` is what descent changes."""

    def __init__(self, preprocess: Preprocess, count: int, generator: torch.Generator, device: torch.device) -> None:
        self.size = preprocess.size
        height, width = self.size
        lowest, highest = (torch.from_numpy(bound)[:, None, None].to(device) for bound in preprocess.bounds())
        self.lowest, self.range = lowest, highest - lowest
        frequency = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None] ** 2).sqrt()
        falling = 1 / frequency.clamp_min(1 / max(height, width))
        self.falling = (falling / falling.square().mean().sqrt()).to(device)
        shape = (count, preprocess.channels, height, width // 2 + 1, 2)
        start = START_AMPLITUDE * torch.randn(shape, generator=generator)
        self.spectrum = start.to(device).requires_grad_(True)

    def shares(self) -> Tensor:
        """(b, C, H, W) between 0 and 1: the share of the range that each value may take."""
        complex_spectrum = torch.view_as_complex(self.spectrum) * self.falling
        planes = torch.fft.irfft2(complex_spectrum, s=self.size, norm="ortho")
        if planes.shape[1] == 3:
            light, warm, cool = planes[:, 0:1], 0.35 * planes[:, 1:2], 0.25 * planes[:, 2:3]
            planes = torch.cat([light + warm, light - 0.2 * warm + 0.6 * cool, light - warm - cool], 1)
        return torch.sigmoid(planes)

    def values(self, shares: Tensor) -> Tensor:
        """The model's input values for `shares`, (b, C, H, W)."""
        return (self.lowest + self.range * shares).contiguous(memory_format=torch.channels_last)
