"""Firing: |w| times how often its input channel is not zero (firing rates as in CAP'NN, DAC 2020; no backward pass)."""

from __future__ import annotations

from torch import Tensor


def score(weight: Tensor, input_firing: Tensor) -> Tensor:
    """Saliency in the shape of `weight`, divided by the layer's mean so that layers compare."""
    saliency = weight.abs() * input_firing
    return saliency / saliency.mean().clamp_min(1e-30)
