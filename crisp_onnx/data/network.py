"""What synthesis asks of a classifier: run it, read tensors inside it, and know its BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Node(Protocol):
    """One operator of the graph."""

    @property
    def op(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...


class Network(Protocol):
    """A graph of named tensors in evaluation mode, as the bridge makes one. It has one input and answers logits."""

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


@contextmanager
def fixed_weights(network: Network) -> Iterator[None]:
    """While inside, no weight asks for a gradient: the backward pass then computes those of the image alone."""
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
