"""Choose which channels go: the least worth for what they cost, until the rest is within the budget.

A knapsack whose costs change as it is packed: a channel costs rows of one layer and columns of the next, so that every
step makes its neighbours cheaper. Channels go in steps that keep widths multiples of the target's lanes; each step
takes the group that gives up least worth for what it saves now. At the end what the last step saved too much is given
back to the channels that are worth most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
    removed, taken = np.zeros(groups, np.int64), {item.number: 0 for item in stocks}
    ladders = {item.number: item.steps() for item in stocks}
    sums = {item.number: np.concatenate([[0.0], np.cumsum(item.worth[item.order])]) for item in stocks}

    def losses(direction: int) -> Floats:
        """What each group's next step gives up, or takes back, for what it costs; infinite where there is none."""
        steps, worth = np.zeros(groups, np.int64), np.full(groups, np.inf)
        for number, ladder in ladders.items():
            place = taken[number] + direction
            if 0 <= place < len(ladder):
                steps[number] = ladder[place] - ladder[taken[number]]
                worth[number] = sums[number][ladder[place]] - sums[number][ladder[taken[number]]]
        costs = cost.gained(removed, steps)
        return np.where(np.isfinite(worth), worth / np.where(costs == 0, 1e-300, costs), np.inf if direction > 0 else 0)

    while cost.at(removed) > budget:
        ratios = losses(1)
        best = int(np.argmin(ratios))
        if not np.isfinite(ratios[best]):
            raise CrispError(
                f"The budget of {budget:.4g} cannot be met: with the least of every group of channels the model still "
                f"costs {cost.at(removed):.4g}. Ask for more than that."
            )
        taken[best] += 1
        removed[best] = ladders[best][taken[best]]
    _give_back(removed, taken, ladders, losses, cost, budget)
    removals = tuple(
        Removal(item.group, tuple(int(c) for c in np.sort(item.order[: removed[item.number]])))
        for item in stocks
        if 0 < removed[item.number] < item.group.width
    )
    dead = tuple(item.group for item in stocks if removed[item.number] == item.group.width)
    return Choice(removals, cost.at(removed), dead)


def _give_back(
    removed: Ints,
    taken: dict[int, int],
    ladders: Mapping[int, Sequence[int]],
    losses: Callable[[int], Floats],
    cost: WidthCost,
    budget: float,
) -> None:
    """Undo steps, the most worth for their cost first, as long as the budget holds."""
    while True:
        ratios = losses(-1)
        for number in np.argsort(-ratios):
            if ratios[number] <= 0 or not np.isfinite(ratios[number]):
                return
            tried = removed.copy()
            tried[number] = ladders[int(number)][taken[int(number)] - 1]
            if cost.at(tried) <= budget:
                removed[:] = tried
                taken[int(number)] -= 1
                break
        else:
            return
