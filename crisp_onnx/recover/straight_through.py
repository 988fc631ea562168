"""Mode `straight-through`: masks follow the weights, and gradients move the weights that are left out too.

With m the mask of the moment, the network computes with m w and w moves by dL/d(m w), as if the mask were not there; m
is chosen anew from w time and again.
"""

from __future__ import annotations

from functools import partial

from crisp_onnx.recover.masking import put_masks
from crisp_onnx.recover.settling import Settling, recover_settling


class StraightThrough(Settling):
    """Dense gradients come from the module itself, whose masks they pass."""

    refits_first = True

    def chosen(self, step: int) -> None:
        put_masks(self.module, self.plan, self.task.weights)


recover = partial(recover_settling, StraightThrough)
