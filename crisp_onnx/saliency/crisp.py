"""CRISP: |w| times the mean over batches of |dL/dw| (arXiv 2311.14272), dense gradients, fixed weights."""

from __future__ import annotations

from torch import Tensor


def score(weight: Tensor, gradient_abs: Tensor) -> Tensor:
    """Saliency in the shape of `weight`; near a minimum it is the square root of weight squared times Fisher."""
    return weight.abs() * gradient_abs
