"""Wanda: |w| times the L2 norm of the inputs it meets, class-aware without a backward pass (arXiv 2306.11695)."""

from __future__ import annotations

from torch import Tensor


def score(weight: Tensor, input_norm: Tensor) -> Tensor:
    """Saliency in the shape of `weight`, divided by the layer's mean so that layers compare."""
    saliency = weight.abs() * input_norm
    return saliency / saliency.mean().clamp_min(1e-30)
