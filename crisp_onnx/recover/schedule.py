"""The schedule of recovery: the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up over `warmup` of `steps` to `peak_rate`, then a cosine to zero."""

    steps: int
    warmup: int
    peak_rate: float

    def rate(self, step: int) -> float:
        """Learning rate."""
        if step < self.warmup:
            return self.peak_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * done))
