"""Activation L2: |w| times the mean over images of its input channel's L2 norm (OCAP, JSA 2023; no backward pass).

Wanda sums squares before the root, so that one loud image counts for more there.
"""

from __future__ import annotations

from torch import Tensor


def score(weight: Tensor, input_l2: Tensor) -> Tensor:
    """Saliency in the shape of `weight`, divided by the layer's mean so that layers compare."""
    saliency = weight.abs() * input_l2
    return saliency / saliency.mean().clamp_min(1e-30)
