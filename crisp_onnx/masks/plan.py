"""`Plan`: for every weight layer, sparse with its mask, or dense with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from crisp_onnx.format.pattern import Pattern
from crisp_onnx.model import WeightLayer


@dataclass(frozen=True)
class SparseLayer:
    """`kept`: (R, S) int32, ascending block columns. `mask`: (Cout, Cin, kh, kw) bool, True where a weight stays."""

    layer: WeightLayer
    pattern: Pattern
    kept: npt.NDArray[np.int32]
    mask: npt.NDArray[np.bool_]

    @property
    def kept_weights(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def density(self) -> float:
        """Kept weights over all weights of the layer, padding not counted."""
        return self.kept_weights / self.layer.weights

    @property
    def kept_macs(self) -> int:
        """MACs of one image where the zeros are skipped."""
        return self.kept_weights * (self.layer.positions or 1)

    @property
    def bytes(self) -> int:
        """As float32."""
        return self.stored_bytes(4)

    def stored_bytes(self, value_bytes: int) -> int:
        """With so many bytes a stored weight."""
        return self.pattern.bytes(self.layer.shape, self.kept.shape[1], value_bytes)


@dataclass(frozen=True)
class DenseLayer:
    """A layer that keeps all its weights, and why."""

    layer: WeightLayer
    reason: str


@dataclass(frozen=True)
class Plan:
    """One decision a weight layer, in the order of the graph.

    `macs_beside`: what the graph multiplies for one image outside of these layers, whatever is pruned.
    """

    layers: tuple[SparseLayer | DenseLayer, ...] = ()
    macs_beside: int = 0

    def sparse(self) -> Iterator[SparseLayer]:
        return (decision for decision in self.layers if isinstance(decision, SparseLayer))

    @property
    def sparsity(self) -> float:
        """Zeros over all weights of the sparse layers."""
        total = sum(s.layer.weights for s in self.sparse())
        return 1 - sum(s.kept_weights for s in self.sparse()) / total if total else 0.0

    @property
    def dense_macs(self) -> int:
        """MACs of one image before anything is pruned."""
        return self.macs_beside + sum(decision.layer.macs for decision in self.layers)

    @property
    def kept_macs(self) -> int:
        """MACs of one image with the zeros skipped, all that stays dense included."""
        return self.macs_beside + sum(
            decision.kept_macs if isinstance(decision, SparseLayer) else decision.layer.macs for decision in self.layers
        )

    def without(self, reasons: Mapping[str, str]) -> Plan:
        """The plan with the layers named in `reasons` (reason by layer name) dense."""
        layers = (
            DenseLayer(decision.layer, reasons[decision.layer.name]) if decision.layer.name in reasons else decision
            for decision in self.layers
        )
        return replace(self, layers=tuple(layers))

    def under(self, layers: Mapping[str, SparseLayer]) -> Plan:
        """The plan with the sparse layers of those names in place of its own."""
        decisions = (
            layers.get(decision.layer.name, decision) if isinstance(decision, SparseLayer) else decision
            for decision in self.layers
        )
        return replace(self, layers=tuple(decisions))

    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Mask by weight name, (Cout, Cin, kh, kw)."""
        return {s.layer.weight: s.mask for s in self.sparse()}
