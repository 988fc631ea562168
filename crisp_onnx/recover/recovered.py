"""What a mode of recovery is given to re-fit with, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crisp_onnx.bridge import GraphModule
from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct import LayerFit, Refitted
from crisp_onnx.recover.state import State

Refit = Callable[[GraphModule, Plan], Refitted]
"""Re-fits, in place, the weights of a module that has the masks of a plan, and may choose others: `reconstruct`."""


FIRST_MASKS = "Weights were re-fitted under the first masks; training has chosen others since."


@dataclass(frozen=True, eq=False)
class Level:
    """One of several budgets: its plan, and the weights and statistics that go with it."""

    plan: Plan
    trained: State


@dataclass(frozen=True)
class Recovered:
    """`plan`: the one whose masks the module ends with. `fits`: how layers were re-fitted on the way, if they were.

    `notes`: what the user should know of how training went. `levels`: what it came to under each of several budgets.
    """

    plan: Plan
    fits: tuple[LayerFit, ...] = ()
    notes: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
