"""The choice of channels: within the budget, widths rounded, the least worth first, and near the best there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.channels import choice, choose, stock
from crisp_onnx.errors import CrispError
from crisp_onnx.groups import ChannelGroup, Member


def group(width: int, span: int = 1) -> ChannelGroup:
    return ChannelGroup(width, (Member("w", 0, 0, width * span, span, span),), (), ("a",), ("b",), (), (), ())


class Additive:
    """A `WidthCost` under which every channel of group g costs prices[g], whatever the others are."""

    def __init__(self, groups, prices):
        self.prices = prices
        self.whole = sum(g.width * price for g, price in zip(groups, prices, strict=True))

    def at(self, removed):
        return float(self.whole - np.asarray(removed) @ self.prices)

    def gained(self, removed, step):
        return np.asarray(step) * self.prices

    def slopes(self, removed):
        return self.prices


@given(
    st.lists(st.tuples(st.integers(2, 40), st.floats(0.5, 20)), min_size=1, max_size=4),
    st.floats(0.3, 0.95),
    st.sampled_from([1, 4, 8]),
    st.integers(0, 100),
)
@settings(max_examples=80)
def test_the_budget_holds_widths_are_rounded_and_the_least_worth_go(sizes, share, lanes, seed):
    rng = np.random.default_rng(seed)
    groups = [group(width) for width, _ in sizes]
    prices = np.array([price for _, price in sizes])
    worth = {n: rng.random(g.width) for n, g in enumerate(groups)}
    cost = Additive(groups, prices)
    try:
        found = choose(stock(groups, worth, lanes), cost, share * cost.whole, len(groups))
    except CrispError:
        least = [max(lanes, -(-g.width // 10)) for g in groups]
        assert (
            sum(min(w, g.width) * p for w, g, p in zip(least, groups, prices, strict=True))
            > (share - 0.25) * cost.whole
        )
        return
    assert found.reached <= share * cost.whole + 1e-9
    for removal in found.removals:
        number = next(n for n, g in enumerate(groups) if g is removal.group)
        left = removal.group.width - len(removal.channels)
        assert left % lanes == 0
        kept = np.delete(worth[number], removal.channels)
        assert worth[number][list(removal.channels)].max() <= kept.min()


def test_it_gives_up_at_most_one_step_more_than_the_best_choice():
    rng = np.random.default_rng(3)
    groups, prices = [group(16), group(12), group(20)], np.array([3.0, 7.0, 1.0])
    worth = {n: rng.random(g.width) * (n + 1) for n, g in enumerate(groups)}
    cost = Additive(groups, prices)
    stocks = stock(groups, worth, 2)
    found = choose(stocks, cost, 0.6 * cost.whole, 3)
    sums = [np.concatenate([[0], np.cumsum(np.sort(worth[n]))]) for n in range(3)]
    best = min(
        sum(sums[n][gone] for n, gone in enumerate(counts))
        for counts in product(*(item.steps() for item in stocks))
        if cost.at(np.array(counts)) <= 0.6 * cost.whole
    )
    lost = sum(sum(worth[n][list(r.channels)]) for r in found.removals for n, g in enumerate(groups) if g is r.group)
    assert lost <= best + max(np.diff(sums[n][item.steps()]).max() for n, item in enumerate(stocks))


def test_heads_of_many_places_go_one_by_one_and_a_budget_under_the_least_is_refused():
    heads = [group(12, span=64)]
    cost = Additive(heads, np.array([1.0]))
    stocks = stock(heads, {0: np.arange(12.0)}, 8)
    assert stocks[0].step == 1
    assert choose(stocks, cost, 0.75 * cost.whole, 1).removals[0].channels == (0, 1, 2)
    with pytest.raises(CrispError, match=r"The budget of 0\.6 cannot be met"):
        choose(stocks, cost, 0.05 * cost.whole, 1)


def test_a_large_step_that_saves_too_much_is_exchanged_for_small_ones_that_give_up_less():
    # A step of the first group saves a third and gives up 8; four of the second save a sixth and give up 6.4.
    groups, prices = [group(16), group(64)], np.array([5.0, 0.625])
    cost = Additive(groups, prices)
    stocks = stock(groups, {0: np.full(16, 1.0), 1: np.full(64, 0.2)}, 8)
    found = choose(stocks, cost, 0.85 * cost.whole, 2)
    assert [(r.group.width, len(r.channels)) for r in found.removals] == [(64, 32)]
    assert found.reached == pytest.approx(cost.whole - 32 * 0.625)


@given(st.integers(0, 200))
@settings(max_examples=40)
def test_no_exchange_leaves_the_budget_or_gives_up_more(seed):
    rng = np.random.default_rng(seed)
    groups = [group(int(width)) for width in rng.choice([16, 32, 64], 4)]
    prices = rng.choice([0.2, 1.0, 8.0], 4)
    worth = {n: rng.random(g.width) for n, g in enumerate(groups)}
    cost = Additive(groups, prices)
    stocks = stock(groups, worth, 8)
    ladders = choice._Ladders(stocks, cost, 4)
    budget = 0.6 * cost.whole
    given_back = choice._given_back(ladders, choice._taken(ladders, np.zeros(4, np.int64), budget), budget)
    found = choose(stocks, cost, budget, 4)
    assert ladders.at(given_back) <= found.reached <= budget
    lost = sum(worth[n][list(r.channels)].sum() for r in found.removals for n, g in enumerate(groups) if g is r.group)
    assert lost <= ladders.worth(given_back) + 1e-9
