"""Accumulate gradients over batches: weights fixed, BatchNorm in eval mode, dense through any mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images
from crisp_onnx.saliency.sums import Sums
from crisp_onnx.task import Classification
from crisp_onnx.task.loss import logits_of, truth_loss, truths_of


@dataclass(frozen=True)
class GradientSums:
    """Sums in the layout of the file: `absolute` of |dL/dw|, `square` of (dL/dw)^2.

    A gradient is that of a batch's mean loss, and counts once for each image of the batch.
    """

    absolute: Sums
    square: Sums

    def merge(self, other: GradientSums) -> GradientSums:
        """The sums over the images of both, which should have come in batches of one size.

        Raises:
            CrispError: they are sums of different weights.
        """
        return GradientSums(self.absolute.merge(other.absolute), self.square.merge(other.square))


def gradient_sums(
    module: GraphModule,
    weights: Sequence[str],
    images: Images,
    task: Classification,
    *,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda images: None,
) -> GradientSums:
    """Run forward and backward over all images once; memory does not grow with their number.

    The loss is over all outputs: what an image adds does not depend on which other classes are wanted. Of pixels, those
    of the user's classes count. `advance` is told of the images that are done.

    Images without labels are judged by the class that the model prefers. So are the outputs beside the one that is
    judged, each by a loss of its own: gradients of several outputs add up by their sizes and do not cancel.
    """
    module.eval()
    parameters = dict(module.named_parameters())
    chosen = [parameters[name] for name in weights]
    device = chosen[0].device
    absolute = [torch.zeros_like(p) for p in chosen]
    square = [torch.zeros_like(p) for p in chosen]
    with _only(module, chosen):
        for inputs, labels in images.batches(batch_size):
            given = None if labels is None else torch.from_numpy(labels).to(device)
            answers = module.several(to_batch(inputs, device), module.output_names[: len(task.every)])
            losses = losses_of(answers, given, task)
            while losses:
                gradients = torch.autograd.grad(
                    losses.pop(), chosen, retain_graph=bool(losses), allow_unused=bool(task.beside)
                )
                for total, total_square, gradient in zip(absolute, square, gradients, strict=True):
                    if gradient is not None:
                        total.add_(gradient.abs(), alpha=len(inputs))
                        total_square.addcmul_(gradient, gradient, value=len(inputs))
            advance(len(inputs))
    return GradientSums(*(Sums(dict(zip(weights, totals, strict=True)), len(images)) for totals in (absolute, square)))


def losses_of(answers: Sequence[Tensor], labels: Tensor | None, task: Classification) -> list[Tensor]:
    """The mean loss of a batch over all columns of each of the `task.every`, whose answers those are."""
    losses = []
    for each, own in zip(task.every, answers, strict=True):
        logits = logits_of(own, each)
        target = truths_of(logits.detach(), labels if each is task else None, each)
        losses.append(truth_loss(logits, target, replace(each, wanted=each.columns)))
    return losses


@contextmanager
def _only(module: GraphModule, chosen: Sequence[Tensor]) -> Iterator[None]:
    """While inside, no other parameter asks for gradients: the backward pass then skips their arithmetic."""
    wanted = {id(p) for p in chosen}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in wanted]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
