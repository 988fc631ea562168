"""Choose which channels go: the least worth for what they cost, until the rest is within the budget.

A knapsack whose costs change as it is packed: a channel costs rows of one layer and columns of the next, so that every
step makes its neighbours cheaper. Channels go in steps that keep widths multiples of the target's lanes; each step
takes the group that gives up least worth for what it saves now. At the end what the last step saved too much is given
back to the channels that are worth most, and where it is more than half a percent that no single step can give back, a
large step is exchanged for small ones of other groups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, gcd

import numpy as np
import numpy.typing as npt

from crisp_onnx.channels.extent import WidthCost
from crisp_onnx.errors import CrispError
from crisp_onnx.groups import ChannelGroup, Removal

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LEAST_SHARE = 0.1
"""Of a group's channels, which always stays: a layer that is nearly shut can no longer be made up for."""
EXACT, MOST_EXCHANGES = 0.004, 8
"""How near the cost shall come to the budget, of the whole network's, in at most so many exchanges."""


@dataclass(frozen=True, eq=False)
class Choice:
    """`removals`: of every group that loses some channels. `dead`: groups that lose all. `reached`: the cost then."""

    removals: tuple[Removal, ...]
    reached: float
    dead: tuple[ChannelGroup, ...] = ()


@dataclass(frozen=True, eq=False)
class Stock:
    """A group that may lose channels. `worth` (width,): of each. `step`: how many go at a time.

    `least`: share of them that stays, and one step does in any case, unless the group `dies` as a whole.
    """

    number: int
    group: ChannelGroup
    worth: Floats
    step: int
    least: float = LEAST_SHARE
    dies: bool = False

    @property
    def order(self) -> Ints:
        """Channels, the least worth first; of equals the last first."""
        return np.lexsort((-np.arange(self.group.width), self.worth))

    def steps(self) -> list[int]:
        """How many channels may be gone, ascending: none, down to a multiple of the step, and so on."""
        least = max(self.step, ceil(self.least * self.group.width))
        first = self.group.width % self.step or self.step
        counts = range(first, self.group.width - least + 1, self.step)
        return [0, *counts, *[self.group.width] * self.dies]


def stock(
    groups: Sequence[ChannelGroup],
    worth: Mapping[int, Floats],
    lanes: int,
    *,
    least: float = LEAST_SHARE,
    dying: Collection[int] = (),
) -> tuple[Stock, ...]:
    """The groups whose channels have a worth, by their number.

    `lanes`: what widths are to be multiples of. `least`: share of a group that stays. `dying`: groups that may die.
    """
    return tuple(Stock(n, groups[n], worth[n], _step(groups[n], lanes), least, n in dying) for n in sorted(worth))


def _step(group: ChannelGroup, lanes: int) -> int:
    """So many channels are a multiple of `lanes` indices along every axis that holds them."""
    spans: dict[tuple[str, int], int] = {}
    for member in (*group.members, *group.flows):
        spans[member.tensor, member.axis] = spans.get((member.tensor, member.axis), 0) + member.span
    return max(lanes // gcd(lanes, span) for span in spans.values())


def least_cost(stocks: Sequence[Stock], cost: WidthCost, groups: int) -> float:
    """The cost with as many channels gone as may go."""
    removed = np.zeros(groups, np.int64)
    for item in stocks:
        removed[item.number] = item.steps()[-1]
    return cost.at(removed)


def choose(stocks: Sequence[Stock], cost: WidthCost, budget: float, groups: int) -> Choice:
    """The channels to remove, of `groups` in all, so that what is left costs at most `budget`.

    Raises:
        CrispError: the least widths cost more.
    """
    ladders = _Ladders(tuple(stocks), cost, groups)
    taken = _taken(ladders, np.zeros(groups, np.int64), budget)
    if taken is None:
        least = least_cost(stocks, cost, groups)
        raise CrispError(
            f"The budget of {budget:.4g} cannot be met: with the least of every group of channels the model still "
            f"costs {least:.4g}. Ask for more than that."
        )
    taken = _exchanged(ladders, _given_back(ladders, taken, budget), budget)
    removed = ladders.removed(taken)
    removals = tuple(
        Removal(item.group, tuple(int(c) for c in np.sort(item.order[: removed[item.number]])))
        for item in stocks
        if 0 < removed[item.number] < item.group.width
    )
    dead = tuple(item.group for item in stocks if removed[item.number] == item.group.width)
    return Choice(removals, cost.at(removed), dead)


@dataclass(frozen=True, eq=False)
class _Ladders:
    """What taking steps from the stocks gives up and saves. `taken` (groups,): steps that each group has gone down."""

    stocks: tuple[Stock, ...]
    cost: WidthCost
    groups: int

    @cached_property
    def _steps(self) -> dict[int, list[int]]:
        return {item.number: item.steps() for item in self.stocks}

    @cached_property
    def _sums(self) -> dict[int, Floats]:
        """The worth of so many of a group's channels, the least worth first."""
        return {item.number: np.concatenate([[0.0], np.cumsum(item.worth[item.order])]) for item in self.stocks}

    def removed(self, taken: Ints) -> Ints:
        """(groups,): channels that are gone."""
        found = np.zeros(self.groups, np.int64)
        for number, steps in self._steps.items():
            found[number] = steps[taken[number]]
        return found

    def at(self, taken: Ints) -> float:
        return self.cost.at(self.removed(taken))

    def worth(self, taken: Ints) -> float:
        """Of all channels that are gone."""
        removed = self.removed(taken)
        return float(sum(sums[removed[number]] for number, sums in self._sums.items()))

    def ratios(self, taken: Ints, direction: int) -> Floats:
        """(groups,): the worth that a step down (1) gives up, or back (-1) regains, for its cost; NaN where none is."""
        removed = self.removed(taken)
        steps, worth = np.zeros(self.groups, np.int64), np.full(self.groups, np.nan)
        for number, ladder in self._steps.items():
            place = taken[number] + direction
            if 0 <= place < len(ladder):
                steps[number] = ladder[place] - removed[number]
                worth[number] = self._sums[number][ladder[place]] - self._sums[number][removed[number]]
        costs = self.cost.gained(removed, steps)
        return worth / np.where(costs == 0, 1e-300, costs)


def _moved(taken: Ints, number: int, direction: int) -> Ints:
    found: Ints = taken.copy()
    found[number] += direction
    return found


def _taken(ladders: _Ladders, taken: Ints, budget: float, *, but: int = -1) -> Ints | None:
    """With steps down until the budget holds, the least worth for their cost first; None where they do not suffice.

    `but`: a group that gives none.
    """
    while ladders.at(taken) > budget:
        ratios = ladders.ratios(taken, 1)
        if but >= 0:
            ratios[but] = np.nan
        if np.isnan(ratios).all():
            return None
        taken = _moved(taken, int(np.nanargmin(ratios)), 1)
    return taken


def _given_back(ladders: _Ladders, taken: Ints, budget: float) -> Ints:
    """With steps undone, the most worth for their cost first, as long as the budget holds."""
    while True:
        ratios = ladders.ratios(taken, -1)
        backs = (_moved(taken, int(n), -1) for n in np.argsort(-np.nan_to_num(ratios)) if ratios[n] > 0)
        fitting = next((back for back in backs if ladders.at(back) <= budget), None)
        if fitting is None:
            return taken
        taken = fitting


def _exchanged(ladders: _Ladders, taken: Ints, budget: float) -> Ints:
    """With large steps undone for small ones of other groups that give up less, until the cost is near the budget.

    One step of a residual stream may be a tenth of the network: too much to undo alone, and saved for nothing.
    """
    near = budget - EXACT * ladders.at(np.zeros_like(taken))
    for _ in range(MOST_EXCHANGES):
        if ladders.at(taken) >= near:
            break
        undone = (_taken(ladders, _moved(taken, int(n), -1), budget, but=int(n)) for n in np.flatnonzero(taken))
        found = [_given_back(ladders, other, budget) for other in undone if other is not None]
        better = [o for o in found if ladders.at(o) > ladders.at(taken) and ladders.worth(o) < ladders.worth(taken)]
        if not better:
            break
        taken = min(better, key=ladders.worth)
    return taken
