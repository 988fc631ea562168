"""Fisher: w^2 times the mean over batches of (dL/dw)^2, an estimate of the loss that adds up over a block."""

from __future__ import annotations

from torch import Tensor


def score(weight: Tensor, gradient_square: Tensor) -> Tensor:
    """Saliency in the shape of `weight` (Optimal Brain Damage with the Fisher diagonal, up to a factor of two)."""
    return weight.square() * gradient_square
