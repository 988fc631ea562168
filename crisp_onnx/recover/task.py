"""`Task`: what recovery is for: the planner of the masks, the criterion that feeds it, and the outputs that matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crisp_onnx.masks import Curve, Planner
from crisp_onnx.saliency import Criterion
from crisp_onnx.task import Classification


@dataclass(frozen=True)
class Task:
    """`all_outputs`: the answers for other classes than the user's are held where they were.

    `levels`: planners of all budgets where there are several, that which keeps most first; `planner` is the last then.
    `factors`: by weight name, what a layer's saliency counts for when the budget is shared; 1 where it is not named.
    """

    planner: Planner
    criterion: Criterion
    answers: Classification
    all_outputs: bool
    levels: tuple[Planner, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)

    def measured(self, curves: Mapping[str, Curve]) -> Task:
        """The task with what each layer loses, measured, for its planners to share the budget by."""
        levels = tuple(planner.measured(curves) for planner in self.levels)
        return replace(self, planner=self.planner.measured(curves), levels=levels)

    def weighed(self, factors: Mapping[str, float]) -> Task:
        """The task with a factor for the saliency of each weight."""
        return replace(self, factors=factors)

    @property
    def weights(self) -> list[str]:
        """Names of the weights that may become sparse."""
        return [layer.weight for layer in self.planner.candidates.free]
