"""Choose one option a layer so that the value kept is largest and the costs stay within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError

GRID = 4096
SLACK = 1e-12
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """What a layer may keep: `kept` blocks per block row (`None`: the layer stays dense), its value and its cost."""

    kept: int | None
    value: float
    cost: float


def solve(layers: Sequence[Sequence[Option]], budget: float) -> list[Option]:
    """The options, one a layer, of largest total value with total cost at most `budget`.

    Dynamic programming over 4096 steps of what the budget leaves above each layer's cheapest option. Costs rounded down
    give the best there is, if it then meets the budget; else to the nearest step; rounded up it always does, and the
    value is the best but for a step a layer. Cost curves may have steps of any form.

    Raises:
        CrispError: even the cheapest options exceed the budget.
    """
    least = [min(option.cost for option in options) for options in layers]
    room = budget - sum(least)
    if room < -SLACK * max(1.0, abs(budget)):
        raise CrispError(
            f"The budget of {budget:.4g} cannot be met: with the least of every layer the model still costs "
            f"{sum(least):.4g}. Ask for more than that, or leave fewer layers dense."
        )
    step = max(room, 0.0) / GRID
    for rounding in ROUNDINGS:
        found = _solve(layers, least, step, rounding)
        if sum(option.cost for option in found) <= budget * (1 + SLACK):
            return found
    return [min(options, key=lambda option: (option.cost, -option.value)) for options in layers]


def _solve(
    layers: Sequence[Sequence[Option]], least: Sequence[float], step: float, rounding: Callable[[float], float]
) -> list[Option]:
    best = np.zeros(GRID + 1)
    taken, steps = [], []
    for options, base in zip(layers, least, strict=True):
        shifts = [_steps(option.cost - base, step, rounding) for option in options]
        best, choice = _add(best, options, shifts)
        taken.append(choice)
        steps.append(shifts)
    at = int(np.argmax(best))
    found = []
    for options, shifts, choice in zip(reversed(layers), reversed(steps), reversed(taken), strict=True):
        index = int(choice[at])
        found.append(options[index])
        at -= shifts[index]
    return found[::-1]


def _add(best: Floats, options: Sequence[Option], shifts: Sequence[int]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Best values at every spending with one more layer, and which of its options gives them."""
    value = np.full(GRID + 1, -np.inf)
    choice = np.zeros(GRID + 1, np.int64)
    for index, (option, shift) in enumerate(zip(options, shifts, strict=True)):
        if shift > GRID:
            continue
        reached = np.full(GRID + 1, -np.inf)
        reached[shift:] = best[: GRID + 1 - shift] + option.value
        better = reached > value
        value[better], choice[better] = reached[better], index
    return value, choice


def _steps(cost: float, step: float, rounding: Callable[[float], float]) -> int:
    if cost <= 0:
        return 0
    return GRID + 1 if step <= 0 else int(min(GRID + 1, rounding(cost / step)))


def _up(steps: float) -> float:
    return ceil(steps - 1e-9)


ROUNDINGS: tuple[Callable[[float], float], ...] = (floor, round, _up)
