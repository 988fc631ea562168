"""The table of recovery modes: how masks and training go together, one file a mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.recover import (
    cram,
    fixed,
    grow_and_prune,
    nested,
    none,
    ramp,
    soft_shrink,
    sr_ste,
    straight_through,
)
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.recovered import Recovered, Refit
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training


class Recover(Protocol):
    """A mode's function."""

    def __call__(
        self,
        module: GraphModule,
        images: Images,
        statistics: Mapping[str, Tensor],
        task: Task,
        training: Training,
        refit: Refit,
        keeper: Keeper,
    ) -> Recovered:
        """Change `module` in place; return the plan whose masks it ends with, and how its weights were re-fitted.

        `statistics`: what the criterion needs, by weight name, in a shape that goes with the stored weight. `refit` is
        called once, while the network without masks still answers. `keeper`: of what a run that was killed had come to,
        from which this one goes on.
        """


@dataclass(frozen=True)
class Mode:
    """`trains`: it runs the training loop, so it wants a `Training` with epochs."""

    name: str
    trains: bool
    recover: Recover


MODES = {
    mode.name: mode
    for mode in (
        Mode("none", False, none.recover),
        Mode("fixed", True, fixed.recover),
        Mode("ramp", True, ramp.recover),
        Mode("straight-through", True, straight_through.recover),
        Mode("sr-ste", True, sr_ste.recover),
        Mode("soft-shrink", True, soft_shrink.recover),
        Mode("grow-and-prune", True, grow_and_prune.recover),
        Mode("cram", True, cram.recover),
        Mode("nested", True, nested.recover),
    )
}
