"""Mode `cram`: steps that make the dense network easy to compress, then masks once and training under them.

With g the gradient at w, C the compression, and w' = C(w + RHO g), the network moves by m g(w') + g(w), m the mask of C
(CrAM+, Peste et al., arXiv 2207.14200). C is the hybrid mask at a level drawn for each step: N:M alone, halfway, or the
whole budget. Statistics of BatchNorm come from the pass at w.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.recover.hooks import Again
from crisp_onnx.recover.masking import masks_of, saliency_of
from crisp_onnx.recover.settling import Settling, recover_settling
from crisp_onnx.recover.state import State

RHO = 0.05
LOOSE = (1.0, 0.5, 0.0)
"""Levels of compression, as shares of what the budget removes beyond N:M that are still kept."""


class Cram(Settling):
    """The module computes with all weights until the last choice."""

    levels: tuple[Mapping[str, Tensor], ...] = ()

    def chosen(self, step: int) -> None:
        saliency = saliency_of(self.module, self.statistics, self.task)
        plans = (self.task.planner.loosened(kept).plan(saliency) for kept in LOOSE)
        self.levels = tuple(masks_of(self.module, plan) for plan in plans)

    def loose(self, step: int, again: Again) -> None:
        masks = self.levels[np.random.default_rng(step).integers(len(self.levels))]
        parameters = {name: p for name, p in self.module.named_parameters() if p.grad is not None}
        first = {name: (p.detach().clone(), p.grad.clone()) for name, p in parameters.items() if p.grad is not None}
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(first[name][1], alpha=RHO)
                if name in masks:
                    p.mul_(masks[name])
        again()
        with torch.no_grad():
            for name, p in parameters.items():
                weight, gradient = first[name]
                p.copy_(weight)
                if p.grad is not None:
                    p.grad.mul_(masks[name]) if name in masks else None
                    p.grad.add_(gradient)

    def state(self) -> State:
        held = State({f"{n}/{name}": mask.cpu() for n, masks in enumerate(self.levels) for name, mask in masks.items()})
        return super().state() | held.under("levels")

    def load(self, state: State) -> None:
        super().load(state)
        held, device = state.part("levels"), next(self.module.parameters()).device
        parts = (held.part(str(number)).tensors for number in range(len(LOOSE)) if held.tensors)
        self.levels = tuple({name: mask.to(device) for name, mask in part.items()} for part in parts)


recover = partial(recover_settling, Cram)
