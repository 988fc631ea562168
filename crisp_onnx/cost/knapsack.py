"""Choose one option a layer so that the value kept is largest and the costs stay within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import numpy as np
import numpy.typing as npt

from crisp_onnx.cost.exchange import Menu, exchange
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

    Dynamic programming over 4096 steps of what the budget leaves above each layer's cheapest option, with costs rounded
    down; where that exceeds the budget, to the nearest step; and up, which always meets it, with the best value but for
    a step a layer. Changes of two layers at a time (`exchange`) then find what the steps hide, and the most valuable is
    taken. Cost curves may have steps of any form.

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
    menus = [Menu.of([o.cost for o in options], [o.value for o in options]) for options in layers]
    most = budget + SLACK * abs(budget)
    cheapest = [min(range(len(options)), key=lambda at: (options[at].cost, -options[at].value)) for options in layers]
    found = [cheapest]
    for rounding in ROUNDINGS:
        tried = _solve(layers, least, step, rounding)
        found.append(exchange(menus, tried, most))
        if _sum(layers, tried, "cost") <= most:
            break
    fitting = [chosen for chosen in found if _sum(layers, chosen, "cost") <= most or chosen is cheapest]
    best = max(fitting, key=lambda chosen: (_sum(layers, chosen, "value"), -_sum(layers, chosen, "cost")))
    return [options[at] for options, at in zip(layers, best, strict=True)]


def _sum(layers: Sequence[Sequence[Option]], chosen: Sequence[int], of: Literal["cost", "value"]) -> float:
    return sum(float(getattr(options[at], of)) for options, at in zip(layers, chosen, strict=True))


def _solve(
    layers: Sequence[Sequence[Option]], least: Sequence[float], step: float, rounding: Callable[[float], float]
) -> list[int]:
    best = np.zeros(GRID + 1)
    taken, steps = [], []
    for options, base in zip(layers, least, strict=True):
        shifts = [_steps(option.cost - base, step, rounding) for option in options]
        best, choice = _add(best, options, shifts)
        taken.append(choice)
        steps.append(shifts)
    at = int(np.argmax(best))
    found: list[int] = []
    for shifts, choice in zip(reversed(steps), reversed(taken), strict=True):
        index = int(choice[at])
        found.append(index)
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
