"""How much of a network's cost may be left so that the narrower network is estimated to take no more than asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from crisp_onnx.api.gains import written_form
from crisp_onnx.api.width_cut import cut, without
from crisp_onnx.api.width_time import Limit, estimated, limit_of_widths
from crisp_onnx.api.widths import Widths
from crisp_onnx.channels import LEAST_SHARE, Choice, Stock, choose, least_cost, stock
from crisp_onnx.errors import CrispError, enough
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, Size
from crisp_onnx.recipe import Recipe

ROUNDING = 1e-9
HALVINGS = 12


def chosen_within(widths: Widths, stocks: Sequence[Stock], share: float) -> Choice:
    """The channels to remove so that `share` of the whole network's cost is left, or less."""
    return choose(stocks, widths.cost, (share + ROUNDING) * widths.whole, len(widths.groups))


def least_share(widths: Widths, stocks: Sequence[Stock]) -> float:
    """What is left of the cost with as many channels gone as may go."""
    return least_cost(stocks, widths.cost, len(widths.groups)) / widths.whole


def is_least(recipe: Recipe, widths: Widths, choice: Choice) -> bool:
    """Whether no more channels may go than the choice takes, with widths rounded as the recipe says."""
    worth = {number: np.ones(widths.groups[number].width) for number in widths.free}
    stocks = stocks_of(recipe, widths.model, widths, worth, recipe.round_channels)
    return choice.reached <= (least_share(widths, stocks) + ROUNDING) * widths.whole


def stocks_of(
    recipe: Recipe,
    model: Model,
    widths: Widths,
    worth: Mapping[int, npt.NDArray[np.float64]],
    lanes: int,
    *,
    least: float = LEAST_SHARE,
    dying: Collection[int] = (),
) -> tuple[Stock, ...]:
    """The groups that may lose channels, and as a whole those of `dying`, or any that can where the budget needs it.

    What a block is worth is more than what its channels are worth one by one, so that none dies for that.
    """
    found = stock(widths.groups, worth, lanes, least=least, dying=dying)
    choice = _with_least(widths, found)
    limit = limit_of_channels(recipe, model, widths)
    if limit is not None:
        model = narrowed_form(recipe, model, choice, widths, widths.size)
        enough = estimated(recipe, limit, model, widths.size) <= limit.amount
    else:  # a network is hardly ever faster by more than its products become fewer
        share = widths.share if recipe.speedup is None else 1 / recipe.speedup
        enough = choice.reached <= (share + ROUNDING) * widths.whole
    return found if enough else stock(widths.groups, worth, lanes, least=least, dying=widths.dying)


def _with_least(widths: Widths, stocks: Sequence[Stock]) -> Choice:
    """As many channels gone as may go."""
    return chosen_within(widths, stocks, least_share(widths, stocks))


def narrowed_form(recipe: Recipe, model: Model, choice: Choice, widths: Widths, size: Size) -> Model:
    """The model as it would be written with these channels gone, untrained."""
    narrow = cut(without(model, choice.dead, widths, {}), choice, widths).model
    return written_form(recipe, narrow, Plan(), size=size)


def limit_of_channels(recipe: Recipe, model: Model, widths: Widths) -> Limit | None:
    """The estimate that channels alone are to keep within; `None` where the budget is another one.

    Where zeros follow, both are to take the same share of what the whole model is estimated to take.
    """
    limit = limit_of_widths(recipe)
    if limit is None or recipe.method == "channels":
        return limit
    whole = estimated(recipe, limit, written_form(recipe, model, Plan(), size=widths.size), widths.size)
    return limit._replace(amount=sqrt(limit.amount * whole))


def share_within(recipe: Recipe, limit: Limit, model: Model, widths: Widths, stocks: Sequence[Stock]) -> float | None:
    """The largest share found with which the limit is met on the recipe's target; `None` where the least takes more."""

    def met(share: float) -> bool:
        narrow = narrowed_form(recipe, model, chosen_within(widths, stocks, share), widths, widths.size)
        return estimated(recipe, limit, narrow, widths.size) <= limit.amount

    low, high = least_share(widths, stocks), 1.0
    if met(high):
        return high
    if not met(low):
        return None
    for _ in range(HALVINGS):
        share = (low + high) / 2
        low, high = (share, high) if met(share) else (low, share)
    return low


def estimated_share(recipe: Recipe, limit: Limit, model: Model, widths: Widths, stocks: Sequence[Stock]) -> float:
    """The largest share found with which the limit is met on the recipe's target.

    Raises:
        CrispError: even the least widths take more.
    """
    share = share_within(recipe, limit, model, widths, stocks)
    if share is None:
        raise CrispError(
            f"{limit.option} {limit.amount:g} cannot be met: with the least of every group of channels the model is "
            f"estimated to take {least_estimate(recipe, limit, model, widths, stocks)}. Ask for as much, or more."
        )
    return share


def least_estimate(recipe: Recipe, limit: Limit, model: Model, widths: Widths, stocks: Sequence[Stock]) -> str:
    """What the limit would have to be so that as many channels gone as may go meet it, with its unit."""
    narrow = narrowed_form(recipe, model, _with_least(widths, stocks), widths, widths.size)
    return f"{enough(estimated(recipe, limit, narrow, widths.size))} {limit.unit}"
