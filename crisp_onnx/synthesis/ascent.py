"""Make images of the user's classes out of the model itself.

Gradient descent on the frequencies of smooth noise until the model sees the wanted class in it and, where the graph
has BatchNorm, until its activations have the moments kept from training (after DeepInversion, arXiv 1912.08795).
`benchmarks/data_free.py` measures what the result is worth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import cos, pi

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data.arrays import ArrayStore, spooled
from crisp_onnx.data.images import Images
from crisp_onnx.data.pixels import Pixels
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.rows import FileRows
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.synthesis.moments import BatchNormSite, batch_norm_sites, fixed_weights, moment_distance
from crisp_onnx.synthesis.spectrum import halved, random_frequencies, shifted, to_pixels
from crisp_onnx.task import Classification
from crisp_onnx.task.loss import logits_of, preferred, truth_loss

log = logging.getLogger(__name__)

SOURCE = "images synthesised from the model"
WARM_UP_STEPS = 5
MOMENTS = 3.0
HALVED_FROM_SIDE, HALVED_SHARE = 96, 0.7
BATCH_PIXELS = 1_000_000
MOST_IMAGES, MOST_LARGE_IMAGES, MOST_OF_A_CLASS = 320, 160, 32
# Two cores do this in one to five minutes: small layers and single images are slow, half size is quick.
MOST_MACS = 4e12
FEWEST_STEPS = 20


@dataclass(frozen=True)
class Effort:
    """How many images a class, in how many steps of which rate, and how many at a time at most."""

    per_class: int
    steps: int = 40
    rate: float = 0.15
    batch: int = 100


def effort_for(size: tuple[int, int], classes: int, macs: int) -> Effort:
    """What two cores do in a few minutes, with a model of so many `macs` an image of `size` (height, width).

    A large model gets fewer images, then fewer steps: images in half the number cost less accuracy than half the steps.
    """
    images = MOST_IMAGES if size[0] * size[1] <= 64 * 64 else MOST_LARGE_IMAGES
    step_macs = 2 * max(1, macs)  # forward, and backward to the image; the weights want no gradients
    affordable = int(MOST_MACS / (step_macs * Effort.steps))
    per_class = max(1, min(MOST_OF_A_CLASS, min(images, affordable) // classes))
    steps = int(MOST_MACS / (step_macs * per_class * classes))
    return Effort(per_class, max(FEWEST_STEPS, min(Effort.steps, steps)))


@dataclass(frozen=True, eq=False)
class _Job:
    """What all batches share. `low` and `high` (c, 1, 1) bound the model's input."""

    module: GraphModule
    sites: tuple[BatchNormSite, ...]
    preprocess: Preprocess
    low: Tensor
    high: Tensor
    task: Classification
    effort: Effort
    generator: torch.Generator

    def inputs(self, images: Tensor) -> Tensor:
        """Images (b, c, h, w) between 0 and 1, red first, as the model's input."""
        ordered = images.flip(1) if self.preprocess.order == "bgr" else images
        values = self.low + (self.high - self.low) * ordered
        return values if self.preprocess.layout == "NCHW" else values.permute(0, 2, 3, 1)

    def answer(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (b, columns) and the tensors that BatchNorm normalises."""
        output = self.module.output_names[0]
        wanted = [output, *(site.tensor for site in self.sites)]
        tensors = self.module.run({self.module.input_names[0]: self.inputs(images)}, wanted)
        return logits_of(tensors[output], self.task), tensors

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The task's loss against the classes (b,) that the images are made for, and the moments' distance.

        A raw logit beside the cross-entropy made images that the model is too sure of: their gradients say little.
        """
        logits, tensors = self.answer(images)
        of_class = truth_loss(logits, labels, self.task)
        return of_class + MOMENTS * moment_distance(tensors, self.sites) if self.sites else of_class


def synthesise(
    module: GraphModule, task: Classification, preprocess: Preprocess, effort: Effort, *, seed: int = 0
) -> Images:
    """Images of the task's wanted classes, the same number of each, labelled with the class that they were made for.

    They are held as 8-bit pixels in a temporary file. No steps give smooth noise. The same seed and number of threads
    give the same images.

    Args:
        effort: `effort_for` has one that ends in minutes.

    Raises:
        CrispError: the model cannot run images of the preprocessing's size, or its gradients are not finite.
    """
    module.eval()
    device = next(module.parameters()).device
    low, high = (torch.from_numpy(bound).to(device)[:, None, None] for bound in preprocess.bounds())
    sites, generator = batch_norm_sites(module), torch.Generator().manual_seed(seed)
    job = _Job(module, sites, preprocess, low, high, task, effort, generator)
    if not job.sites:
        log.info("the model keeps no BatchNorm statistics, so its images follow the class alone")
    height, width = preprocess.size
    labels = torch.tensor(task.wanted, device=device).repeat(effort.per_class)
    batches = torch.split(labels, max(1, min(effort.batch, BATCH_PIXELS // (height * width))))
    with fixed_weights(module), bar("synthesis", effort.steps * len(batches)) as advance:
        pixels = _each_batch(job, batches, advance)
        array = spooled(pixels, np.dtype(np.uint8), (height, width, preprocess.channels))
    return as_synthesised(array, labels.cpu().numpy(), preprocess)


def as_synthesised(pixels: Pixels | FileRows, labels: npt.NDArray[np.int64], preprocess: Preprocess) -> Images:
    """Pixels (n, h, w, c) that `synthesise` made for the classes `labels` (n,), as images."""
    fitted = replace(preprocess, resize=None)
    return Images(ArrayStore(pixels, SOURCE), np.arange(len(pixels)), labels, fitted, SOURCE)


def _each_batch(job: _Job, batches: tuple[Tensor, ...], advance: Callable[[int], None]) -> Iterator[Pixels]:
    """The pixels (b, h, w, c) of every batch, and a word on how many the model takes for what they shall be."""
    size, channels = job.preprocess.size, job.preprocess.channels
    half = job.effort.steps > 0 and _runs_halved(job, len(batches[0]))
    recognised = 0
    for labels in batches:
        start = random_frequencies(len(labels), channels, size, job.generator).to(labels.device)
        images = to_pixels(_descended(job, start, labels, half, advance), size)
        with torch.no_grad():
            logits, _ = job.answer(images)
        recognised += int((preferred(logits, job.task) == labels).sum())
        yield images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    total = sum(map(len, batches))
    log.info("of %d synthetic images the model takes %d for the class they are made for", total, recognised)


def _descended(job: _Job, start: Tensor, labels: Tensor, half: bool, advance: Callable[[int], None]) -> Tensor:
    """The coefficients after the steps of Adam, the first of them at half resolution where the network can."""
    coefficients, effort = start.requires_grad_(True), job.effort
    optimizer = torch.optim.Adam([coefficients], lr=effort.rate, betas=(0.9, 0.99))
    for step in range(effort.steps):
        optimizer.param_groups[0]["lr"] = effort.rate * _pace(step, effort.steps)
        images = to_pixels(coefficients, job.preprocess.size)
        if half and step < HALVED_SHARE * effort.steps:
            images = halved(images)
        if not job.sites:  # with statistics to match, images that stand still do better
            images = shifted(images, job.generator)
        loss = job.loss(images, labels)
        (gradient,) = torch.autograd.grad(loss, coefficients)
        if not torch.isfinite(gradient).all():
            raise CrispError(
                "Images cannot be synthesised from this model: its gradients are not finite. Give images with --data."
            )
        coefficients.grad = gradient
        optimizer.step()
        advance(1)
    return coefficients.detach()


def _pace(step: int, steps: int) -> float:
    """Share of the full rate: a short linear warm-up, then a cosine down to a twentieth."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * (0.05 + 0.95 * 0.5 * (1 + cos(pi * step / steps)))


def _runs_halved(job: _Job, count: int) -> bool:
    """Whether large images may be optimised at half their sides, at a quarter of the work."""
    height, width = job.preprocess.size
    if min(height, width) < HALVED_FROM_SIDE:
        return False
    grey = torch.full((count, job.preprocess.channels, height, width), 0.5, device=job.low.device)
    with torch.no_grad():
        logits, _ = job.answer(grey)
        try:
            smaller, _ = job.answer(halved(grey))
        except (CrispError, RuntimeError):  # a Reshape or a classifier bound to the full size
            return False
    return smaller.shape == logits.shape
