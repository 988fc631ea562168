"""Mode `sr-ste`: straight-through, with a pull to zero of what is left out, so that masks come to rest.

w moves by dL/d(m w) + decay (1 - m) w (Zhou et al., arXiv 2102.04010).
"""

from __future__ import annotations

from functools import partial

from crisp_onnx.recover.hooks import Again
from crisp_onnx.recover.settling import recover_settling
from crisp_onnx.recover.straight_through import StraightThrough

DECAY = 2e-4


class SrSte(StraightThrough):
    """Adds the pull to the gradients."""

    def loose(self, step: int, again: Again) -> None:
        parameters = dict(self.module.named_parameters())
        for name, mask in self.module.masks.items():
            gradient = parameters[name].grad
            if gradient is not None:
                gradient.add_(parameters[name].detach() * ~mask, alpha=DECAY)


recover = partial(recover_settling, SrSte)
