"""`Task`: what recovery is for: the planner of the masks, the criterion that feeds it, and the outputs that matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crisp_onnx.masks import Curve, Planner
from crisp_onnx.saliency import Criterion
from crisp_onnx.task import Classification


@dataclass(frozen=True)
class Task:
    """`all_outputs`: the answers for other classes than the user's are held where they were.

    `levels`: planners of all budgets where there are several, that which keeps most first; `planner` is the last then.
    """

    planner: Planner
    criterion: Criterion
    answers: Classification
    all_outputs: bool
    levels: tuple[Planner, ...] = ()

    def measured(self, curves: Mapping[str, Curve]) -> Task:
        """The task with what each layer loses, measured, for its planners to share the budget by."""
        levels = tuple(planner.measured(curves) for planner in self.levels)
        return replace(self, planner=self.planner.measured(curves), levels=levels)

    @property
    def weights(self) -> list[str]:
        """Names of the weights that may become sparse."""
        return [layer.weight for layer in self.planner.candidates.free]
