"""One saliency threshold over all layers: N:M first, then blocks under a budget of weights or of MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from crisp_onnx.errors import CrispError
from crisp_onnx.masks.allocation import RankColumns, allocate
from crisp_onnx.masks.curve import Curve
from crisp_onnx.masks.plan import Plan, SparseLayer
from crisp_onnx.masks.planner import BUDGET_TOLERANCE, Candidates, Saliency, Spent
from crisp_onnx.masks.scored import ScoredLayer
from crisp_onnx.model import WeightLayer

FLOOR = 0.5
# A budget counts as met within 0.005; columns of a few wide layers may be coarser than that.
SLACK = 0.0025
DIGITS = 15


@dataclass(frozen=True)
class Threshold:
    """Keep the share `kept` of the weights of the layers that become sparse, or of the MACs of the whole model.

    `floor`: of what a uniform allocation would leave a layer, the share that it keeps at least.

    Raises:
        CrispError: a share out of range.
    """

    candidates: Candidates
    kept: float
    of: Literal["weights", "macs"] = "weights"
    floor: float = FLOOR

    def __post_init__(self) -> None:
        if not 0 < self.kept <= 1:
            raise CrispError(f"{self._asked} is out of range. Use a number between 0 and 1, for example 0.8.")

    def plan(self, saliency: Saliency) -> Plan:
        """See `Planner`."""
        scored = self.candidates.scored(saliency)
        columns = [RankColumns(item.columns.saliency, item.columns.cost * self._unit(item.layer)) for item in scored]
        after_nm = sum(float(item.cost.sum()) for item in columns)
        target = self.kept * self._whole - self._fixed
        if target <= 0:
            raise CrispError(
                f"{self._asked} cannot be met: what stays dense needs {self._fixed / self._whole:.3f} of all MACs."
                " `crisp-onnx check` shows which and why."
            )
        if target > after_nm * (1 + BUDGET_TOLERANCE):
            most = (self._fixed + after_nm) / self._whole
            least = f"at least {1 - most:.3g}" if self.of == "weights" else f"at most {most:.3g}"
            raise CrispError(
                f"{self._asked} keeps more than pattern {self.candidates.pattern} does. Ask for {least}, or a denser "
                "pattern."
            )
        # Where a layer may not keep all its blocks, the worst rank columns are gone before any is chosen.
        limits = [self.candidates.most_blocks.get(item.layer.name, len(item.columns.cost)) for item in scored]
        columns = [RankColumns(x.saliency[-limit:], x.cost[-limit:]) for x, limit in zip(columns, limits, strict=True)]
        blocks = allocate(
            columns, target, floor=self.floor, tolerance=SLACK * self._whole, paired=bool(self.candidates.curves)
        )
        return self.candidates.plan(_kept(scored, blocks))

    def leaving(self, share: float) -> Threshold:
        """The same with that share left of the MACs of the layers that become sparse, which their time goes by."""
        counted = replace(self, of="macs")
        sparse = counted._whole - counted._fixed
        return replace(counted, kept=1 - (1 - share) * sparse / counted._whole)

    def measured(self, curves: Mapping[str, Curve]) -> Threshold:
        """See `Planner`."""
        return replace(self, candidates=replace(self.candidates, curves=curves))

    def loosened(self, kept: float) -> Threshold:
        """See `Planner`."""
        density = self.candidates.pattern.density
        start = density
        if self.of == "macs" and self._whole:
            sparse = self._whole - self._fixed
            start = (self._whole - sparse * (1 - density)) / self._whole
        return replace(self, kept=self.kept + max(0.0, start - self.kept) * kept)

    def spent(self, plan: Plan) -> Spent:
        """See `Planner`."""
        name, asked = ("sparsity", self._share) if self.of == "weights" else ("macs", self.kept)
        reached = plan.sparsity if self.of == "weights" else plan.kept_macs / plan.dense_macs
        return Spent(name, asked, reached, met=abs(asked - reached) <= max(BUDGET_TOLERANCE, self._step / 2))

    @property
    def _asked(self) -> str:
        if self.of == "weights":
            return (
                f"--sparsity {self._share:.{DIGITS}g}" if self._share else f"--sparsity of less than {10.0**-DIGITS:g}"
            )
        return f"--macs {self.kept:.{DIGITS}g}"

    @property
    def _share(self) -> float:
        """The share of zeros asked for, as far as what is kept tells it."""
        return round(1 - self.kept, DIGITS)

    def _unit(self, layer: WeightLayer) -> float:
        """Cost of one weight."""
        return 1.0 if self.of == "weights" else float(layer.positions or 1)

    @property
    def _whole(self) -> int:
        """Cost of all that the budget is a share of."""
        if self.of == "weights":
            return sum(layer.weights for layer in self.candidates.free)
        return self.candidates.macs_beside + sum(layer.macs for layer in self.candidates.layers)

    @property
    def _step(self) -> float:
        """The finest step that the budget can be met in, as a share: one rank column of the layer with the cheapest."""
        pattern = self.candidates.pattern
        columns = [
            layer.weights * self._unit(layer) * pattern.density / pattern.block_columns(layer.shape)
            for layer in self.candidates.free
        ]
        return min(columns, default=0.0) / self._whole if self._whole else 0.0

    @property
    def _fixed(self) -> int:
        """Cost of what stays dense, as far as the budget counts it."""
        return 0 if self.of == "weights" else self._whole - sum(layer.macs for layer in self.candidates.free)


def _kept(scored: Sequence[ScoredLayer], blocks: Sequence[int]) -> list[SparseLayer]:
    return [item.keep(count) for item, count in zip(scored, blocks, strict=True)]
