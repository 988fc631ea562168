"""The loss whose gradients tell what the user's classes need: cross-entropy over their logits alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def logits_of(output: Tensor, *, probabilities: bool) -> Tensor:
    """The model's output as logits (n, classes); a model that ends in Softmax gives their logarithm."""
    flat = output.flatten(1).float()
    return flat.clamp_min(1e-12).log() if probabilities else flat


def restrict(logits: Tensor, classes: Tensor) -> Tensor:
    """(n, outputs) -> (n, k): the logits of the user's classes, in their order."""
    return logits.index_select(1, classes)


def places(labels: Tensor, classes: Tensor) -> Tensor:
    """Output indices (n,) -> places in `classes` (n,)."""
    return (labels[:, None] == classes[None]).int().argmax(1)


def class_loss(logits: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy. With one class the restricted softmax is constant, so all outputs take part."""
    if len(classes) == 1:
        return functional.cross_entropy(logits, labels)
    return functional.cross_entropy(restrict(logits, classes), places(labels, classes))


def pseudo_labels(logits: Tensor, classes: Tensor) -> Tensor:
    """For images without labels: the class the model itself prefers among the user's."""
    return classes[restrict(logits, classes).argmax(1)]


def as_tensor(classes: tuple[int, ...], device: torch.device) -> Tensor:
    """Class indices as (k,) int64."""
    return torch.tensor(classes, dtype=torch.int64, device=device)
