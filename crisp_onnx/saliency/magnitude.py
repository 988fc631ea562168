"""Magnitude: |w|, the baseline that needs no images and knows no classes."""

from __future__ import annotations

from torch import Tensor


def score(weight: Tensor, statistic: Tensor) -> Tensor:
    """Saliency in the shape of `weight`, divided by the layer's mean so that layers compare."""
    return weight.abs() / weight.abs().mean().clamp_min(1e-30)
