"""`Planner`: from saliency to a plan under one budget. Each road to a plan is a file: `threshold`, `cost.steer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from crisp_onnx.errors import CrispError
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.masks.curve import Curve
from crisp_onnx.masks.hybrid import Floats
from crisp_onnx.masks.plan import DenseLayer, Plan, SparseLayer
from crisp_onnx.masks.scored import ScoredLayer, score_layer
from crisp_onnx.model import WeightLayer

Saliency = Mapping[str, Floats]
"""(Cout, Cin, kh, kw) by weight name, non-negative; needed for the layers that may become sparse."""

BUDGET_TOLERANCE = 0.005


@dataclass(frozen=True)
class Candidates:
    """What a planner may choose from: the model's weight layers under one pattern.

    `dense_reasons`: why a layer stays dense, by its name; absent or empty for those that may become sparse.
    `most_blocks`: by layer name, how many blocks of every block row it may keep; absent for those without a limit.
    `macs_beside`: what the model multiplies for one image outside of its weight layers.
    `curves`: by layer name, what each free layer loses with so many blocks, where that was measured: saliency then says
    which blocks stay, and not how many.
    """

    layers: tuple[WeightLayer, ...]
    pattern: Pattern
    dense_reasons: Mapping[str, str]
    most_blocks: Mapping[str, int] = field(default_factory=dict)
    macs_beside: int = 0
    curves: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def free(self) -> tuple[WeightLayer, ...]:
        """The layers that may become sparse."""
        return tuple(layer for layer in self.layers if not self.dense_reasons.get(layer.name))

    @property
    def obstacles(self) -> str:
        """Every reason once, for a message that nothing can be pruned."""
        listed = sorted({reason for reason in self.dense_reasons.values() if reason})
        return "; ".join(listed) or "it holds no Conv, Gemm or MatMul with a stored weight"

    def scored(self, saliency: Saliency) -> list[ScoredLayer]:
        """Every free layer seen through the pattern.

        Raises:
            CrispError: no free layer, or a saliency that is not finite.
        """
        if not self.free:
            raise CrispError(f"No prunable layer: {self.obstacles}. `crisp-onnx check` shows every layer.")
        found = [score_layer(layer, saliency[layer.weight], self.pattern) for layer in self.free]
        return [item.measured(self.curves[item.layer.name]) for item in found] if self.curves else found

    def without(self, reasons: Mapping[str, str]) -> Candidates:
        """The same with the layers named in `reasons` dense too, unless they are already."""
        kept = {name: reason for name, reason in self.dense_reasons.items() if reason}
        return replace(self, dense_reasons={**reasons, **kept})

    def plan(self, decisions: Sequence[SparseLayer | DenseLayer]) -> Plan:
        """One decision a layer, in the order of the graph: those given, and dense for the reasons known."""
        by_name = {decision.layer.name: decision for decision in decisions}
        return Plan(
            tuple(by_name.get(x.name) or DenseLayer(x, self.dense_reasons.get(x.name, "")) for x in self.layers),
            self.macs_beside,
        )


@dataclass(frozen=True)
class Spent:
    """What a plan takes of its budget. `name`: sparsity, macs, latency_ms or energy_mj."""

    name: str
    asked: float
    reached: float
    met: bool


class Planner(Protocol):
    """From saliency to a plan."""

    @property
    def candidates(self) -> Candidates: ...

    def plan(self, saliency: Saliency) -> Plan:
        """The plan under the whole budget.

        Raises:
            CrispError: no prunable layer, a budget that cannot be met, or a saliency that is not finite.
        """

    def measured(self, curves: Mapping[str, Curve]) -> Planner:
        """The same planner with what each free layer loses, measured, in place of saliency to share the budget by."""

    def loosened(self, kept: float) -> Planner:
        """A planner that still keeps this share of what the budget removes beyond N:M: 1 is N:M alone, 0 this one."""

    def spent(self, plan: Plan) -> Spent:
        """What `plan` takes of the budget."""
