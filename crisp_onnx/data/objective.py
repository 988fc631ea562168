"""What makes a synthetic image good: the class it shall show, BatchNorm statistics it shall meet, and smoothness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.data.network import BatchNormSite


@dataclass(frozen=True)
class Weights:
    """How much each term counts. `logit` is that of the raw class logit, `moments` that of BatchNorm matching."""

    classes: float = 1.0
    logit: float = 0.0
    moments: float = 0.1
    variation: float = 0.0
    energy: float = 0.0


def loss(
    images: Tensor, logits: Tensor, wanted: Tensor, classes: Tensor, matched: Tensor | float, weights: Weights
) -> Tensor:
    """The loss of a batch that gradient descent on the images lowers, a scalar.

    Args:
        images: (b, C, H, W), normalised so that each channel runs from -1 to 1.
        logits: (b, outputs); with the cross-entropy over the user's classes alone.
        wanted: (b,) places in `classes`, which is (k,) output indices.
        matched: what `moment_distance` gives, 0 without BatchNorm.
    """
    kept = logits.index_select(1, classes)
    terms = [
        weights.classes * functional.cross_entropy(kept, wanted) if len(classes) > 1 else 0.0,
        -weights.logit * kept.gather(1, wanted[:, None]).mean() if weights.logit or len(classes) == 1 else 0.0,
        weights.moments * matched,
        weights.variation * total_variation(images) if weights.variation else 0.0,
        weights.energy * images.square().mean() if weights.energy else 0.0,
    ]
    return torch.stack([term for term in terms if isinstance(term, Tensor)]).sum()


def moment_distance(tensors: Mapping[str, Tensor], sites: Sequence[BatchNormSite]) -> Tensor:
    """Sum over the sites of |batch mean - running mean| + |batch variance - running variance|, as L2 norms.

    The statistic that DeepInversion matches (arXiv 1912.08795, equation 4): images whose activations have the moments
    of the training images pass through the same parts of the network.
    """
    distances = []
    for site in sites:
        # One contiguous reduction an image is far quicker on a CPU than var_mean over three axes.
        flat = tensors[site.tensor].flatten(2)
        mean = flat.mean(2).mean(0)
        variance = flat.square().mean(2).mean(0) - mean.square()
        distances.append((mean - site.mean).norm() + (variance - site.variance).norm())
    return torch.stack(distances).sum()


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels along both sides of (b, C, H, W)."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    across = (images[..., 1:] - images[..., :-1]).abs().mean()
    return down + across
