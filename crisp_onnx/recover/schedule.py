"""The schedule of recovery: learning rate, sparsity ramp, and when masks are chosen anew."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Shares of all steps: the ramp ends at `ramp`, masks freeze at `freeze`; in between they are chosen anew.

    Steps after the freeze are worth more than late choices, so both come early.
    """

    steps: int
    warmup: int
    peak_rate: float
    ramp: float = 0.3
    freeze: float = 0.4
    every: int = 20

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to zero."""
        if step < self.warmup:
            return self.peak_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * done))

    def loose(self, step: int) -> float:
        """Share of the pruning still undone: falls as a cube from 1 to 0 (Zhu and Gupta, arXiv 1710.01878)."""
        if step >= int(self.freeze * self.steps):
            return 0.0
        left: float = max(0.0, 1 - step / max(1.0, self.ramp * self.steps))
        return left**3

    def chooses(self, step: int) -> bool:
        """Whether masks are chosen at this step. The last choice is made at the freeze, under the full budget."""
        freeze = int(self.freeze * self.steps)
        return step == freeze or (step < freeze and step % self.every == 0)
