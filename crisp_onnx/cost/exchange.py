"""Change the options of one layer or of two at a time for as long as more value fits into the budget.

The knapsack counts costs in steps, so that of choices that just fit some seem to exceed the budget. They are found
here, where costs are what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SWEEPS = 2
"""Over all layers at most; few changes are ever made."""
LEAST_GAIN = 1e-12
MOST_PAIRS = 1024
"""Of layers that a sweep looks at; of more layers, each is held against those behind it alone."""


@dataclass(frozen=True)
class Menu:
    """The options of a layer from the cheapest: costs, values, and the place of the most valuable up to each.

    `places`: of each in the layer's own list.
    """

    costs: Floats
    values: Floats
    best: npt.NDArray[np.intp]
    places: npt.NDArray[np.intp]

    @classmethod
    def of(cls, costs: Sequence[float], values: Sequence[float]) -> Menu:
        order = np.lexsort((-np.asarray(values), np.asarray(costs)))
        by_cost = np.asarray(values, np.float64)[order]
        highest = by_cost >= np.maximum.accumulate(by_cost)
        best = np.maximum.accumulate(np.where(highest, np.arange(len(order)), 0))
        return cls(np.asarray(costs, np.float64)[order], by_cost, best, order)


def exchange(menus: Sequence[Menu], chosen: Sequence[int], budget: float) -> list[int]:
    """Places of options, worth no less than `chosen`, or less where those exceed the budget by little."""
    now = [int(np.flatnonzero(menu.places == place)[0]) for menu, place in zip(menus, chosen, strict=True)]
    every = range(len(menus))
    if _spent(menus, now) > budget:
        _, changed = max((_best(menus, now, one, budget, -np.inf) for one in every), key=lambda found: found[0])
        now = [changed.get(at, place) for at, place in enumerate(now)]
    for _ in range(SWEEPS):
        before = list(now)
        for one in every:
            least = LEAST_GAIN * abs(sum(float(menu.values[at]) for menu, at in zip(menus, now, strict=True)))
            _, changed = _best(menus, now, one, budget, least)
            now = [changed.get(at, place) for at, place in enumerate(now)]
        if now == before:
            break
    return [int(menu.places[at]) for menu, at in zip(menus, now, strict=True)]


def _spent(menus: Sequence[Menu], now: Sequence[int]) -> float:
    return sum(float(menu.costs[at]) for menu, at in zip(menus, now, strict=True))


def _best(
    menus: Sequence[Menu], now: Sequence[int], one: int, budget: float, least: float
) -> tuple[float, dict[int, int]]:
    """(what it gains, the new places) of the best change of layer `one`, alone or with another; none under `least`."""
    menu = menus[one]
    room = budget - _spent(menus, now) + float(menu.costs[now[one]])
    gain, changed = least, dict[int, int]()
    for two in _partners(one, len(menus)):
        other = menus[two]
        if two == one:
            fits = int(np.searchsorted(menu.costs, room, side="right"))
            more = float(menu.values[menu.best[fits - 1]] - menu.values[now[one]]) if fits else -np.inf
            found = {one: int(menu.best[fits - 1])}
        else:
            left = np.searchsorted(other.costs, room + other.costs[now[two]] - menu.costs, side="right")
            beside = other.best[np.maximum(left, 1) - 1]
            both = np.where(left > 0, menu.values + other.values[beside], -np.inf)
            first = int(np.argmax(both))
            more = float(both[first] - menu.values[now[one]] - other.values[now[two]])
            found = {one: first, two: int(beside[first])}
        if more > gain:
            gain, changed = more, found
    return gain, changed


def _partners(one: int, layers: int) -> list[int]:
    """Itself first, then as many of the layers behind it, and from the first again, as a sweep has room for."""
    return [(one + step) % layers for step in range(min(layers, max(2, MOST_PAIRS // layers)))]
