"""Choose one option a layer so that the value kept is largest and the costs stay within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError

GRID = 4096
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """What a layer may keep: `kept` blocks per block row (`None`: the layer stays dense), its value and its cost."""

    kept: int | None
    value: float
    cost: float


def solve(layers: Sequence[Sequence[Option]], budget: float) -> list[Option]:
    """The options, one a layer, of largest total value with total cost at most `budget`.

    Costs above each layer's cheapest option are rounded up to 1/4096 of what is left of the budget, so the budget is
    never exceeded and the value is the best there is but for that rounding. Cost curves may have steps of any form.

    Raises:
        CrispError: even the cheapest options exceed the budget.
    """
    least = [min(option.cost for option in options) for options in layers]
    room = budget - sum(least)
    if room < -1e-12 * max(1.0, abs(budget)):
        raise CrispError(
            f"The budget of {budget:.4g} cannot be met: with the least of every layer the model still costs "
            f"{sum(least):.4g}. Ask for more than that, or leave fewer layers dense."
        )
    step = max(room, 0.0) / GRID
    best = np.zeros(GRID + 1)
    taken = []
    for options, base in zip(layers, least, strict=True):
        best, choice = _add(best, options, base, step)
        taken.append(choice)
    at = int(np.argmax(best))
    found = []
    for options, base, choice in zip(reversed(layers), reversed(least), reversed(taken), strict=True):
        option = options[int(choice[at])]
        found.append(option)
        at -= _steps(option.cost - base, step)
    return found[::-1]


def _add(best: Floats, options: Sequence[Option], base: float, step: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Best values at every spending with one more layer, and which of its options gives them."""
    value = np.full(GRID + 1, -np.inf)
    choice = np.zeros(GRID + 1, np.int64)
    for index, option in enumerate(options):
        shift = _steps(option.cost - base, step)
        if shift > GRID:
            continue
        reached = np.full(GRID + 1, -np.inf)
        reached[shift:] = best[: GRID + 1 - shift] + option.value
        better = reached > value
        value[better], choice[better] = reached[better], index
    return value, choice


def _steps(cost: float, step: float) -> int:
    if cost <= 0:
        return 0
    return GRID + 1 if step <= 0 else int(np.ceil(cost / step - 1e-9))
