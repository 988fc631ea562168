"""What synthesis asks of a classifier: run it, read tensors inside it, and know its BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class Node(Protocol):
    """One operator of the graph."""

    @property
    def op(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...


class Network(Protocol):
    """A graph of named tensors, as the bridge makes one, with one image input; its first output are the logits."""

    @property
    def nodes(self) -> Sequence[Node]: ...

    @property
    def input_names(self) -> tuple[str, ...]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tensors by name, any of the graph."""

    def get_statistic(self, name: str) -> Tensor:
        """The running mean or variance of that name, (channels,)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained weights."""

    def eval(self) -> object:
        """Let BatchNorm use its running statistics."""


@dataclass(frozen=True, eq=False)
class BatchNormSite:
    """The tensor that a BatchNorm normalises, and the running `mean` and `variance` (channels,) kept of it."""

    tensor: str
    mean: Tensor
    variance: Tensor


def batch_norm_sites(network: Network) -> tuple[BatchNormSite, ...]:
    """Every BatchNorm of the graph, in its order; empty where the export has folded them into convolutions."""
    return tuple(
        BatchNormSite(node.inputs[0], network.get_statistic(node.inputs[3]), network.get_statistic(node.inputs[4]))
        for node in network.nodes
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
def fixed_weights(network: Network) -> Iterator[None]:
    """While inside, no weight asks for a gradient: the backward pass then computes those of the images alone."""
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
