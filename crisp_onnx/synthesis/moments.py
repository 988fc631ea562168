"""How far a batch is from the images that a model was trained on, by its BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule


@dataclass(frozen=True, eq=False)
class BatchNormSite:
    """The tensor that a BatchNorm normalises, and the running `mean` and `variance` (channels,) kept of it."""

    tensor: str
    mean: Tensor
    variance: Tensor


def batch_norm_sites(module: GraphModule) -> tuple[BatchNormSite, ...]:
    """Every BatchNorm of the graph, in its order; empty where the export has folded them into convolutions."""
    return tuple(
        BatchNormSite(node.inputs[0], module.get_statistic(node.inputs[3]), module.get_statistic(node.inputs[4]))
        for node in module.nodes
        if node.op == "BatchNormalization"
    )


def moment_distance(tensors: Mapping[str, Tensor], sites: Sequence[BatchNormSite]) -> Tensor:
    """How far the batch is from the images the network was trained on, a scalar: summed over the BatchNorm sites,

        |m - mean| / sqrt(sum(variance)) + |v - variance| / |variance|

    with m and v the moments of the batch. DeepInversion (arXiv 1912.08795, equation 4) without the divisors; with them
    no layer counts for more because its activations are large.
    """
    distances = []
    for site in sites:
        # One contiguous reduction an image is several times quicker on a CPU than var_mean over three axes.
        flat = tensors[site.tensor].unsqueeze(-1).flatten(2).float()
        mean = flat.mean(2).mean(0)
        variance = flat.square().mean(2).mean(0) - mean.square()
        of_means = (mean - site.mean).norm() / site.variance.sum().sqrt().clamp_min(1e-6)
        of_variances = (variance - site.variance).norm() / site.variance.norm().clamp_min(1e-6)
        distances.append(of_means + of_variances)
    return torch.stack(distances).sum()


@contextmanager
def fixed_weights(module: GraphModule) -> Iterator[None]:
    """While inside, no weight asks for a gradient: the backward pass then computes those of the images alone."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
