"""Mode `soft-shrink`: weights that are to go fade by a share a step, and gradients may bring them back (ISS-P).

While masks change, the network computes with all weights; after each step w becomes m w + FACTOR (1 - m) w. Those that
the last choice leaves out become zero (iterative soft shrinkage, arXiv 2303.09650).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from crisp_onnx.recover.masking import masks_of
from crisp_onnx.recover.settling import Settling, recover_settling
from crisp_onnx.recover.state import State

FACTOR = 0.95


class SoftShrink(Settling):
    """The module's masks are ones until the last choice; those chosen on the way only say what fades."""

    fading: dict[str, Tensor]

    def chosen(self, step: int) -> None:
        self.fading = {name: ~mask for name, mask in masks_of(self.module, self.plan).items()}

    def moved(self, step: int) -> None:
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, out in self.fading.items():
                parameters[name].mul_(torch.where(out, FACTOR, 1.0))

    def load(self, state: State) -> None:
        super().load(state)
        self.fading = {name: ~mask for name, mask in masks_of(self.module, self.plan).items()}


recover = partial(recover_settling, SoftShrink)
