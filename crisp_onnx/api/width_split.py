"""How channels and the zeros that follow share one budget: channels give what zeros alone could not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from crisp_onnx.api.planning import make_planner, rehearse
from crisp_onnx.api.prepare import Prepared, described
from crisp_onnx.api.width_cut import cut, without
from crisp_onnx.api.width_estimate import (
    ROUNDING,
    chosen_within,
    estimated_share,
    least_estimate,
    least_share,
    limit_of_channels,
    share_within,
    stocks_of,
)
from crisp_onnx.api.width_time import limit_of_widths
from crisp_onnx.api.widths import Widths, recipe_for_blocks, widths_of, within_pattern
from crisp_onnx.channels import Choice, Stock
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan, Planner, Threshold
from crisp_onnx.masks.planner import BUDGET_TOLERANCE
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe

RUNGS = 16


@dataclass(frozen=True)
class Split:
    """`share`: of the whole network's cost, that channels leave. `planner`: of the zeros on what is left then.

    `rehearsed`: what it plans where no layer is preferred.
    """

    share: float
    planner: Planner
    rehearsed: Plan


def rehearse_widths(recipe: Recipe, prepared: Prepared) -> Plan | None:
    """Choose under a worth that prefers no channel: a budget that cannot be met is refused now, not after an hour.

    Returns what the zeros that follow on channels would be, where some do.

    Raises:
        CrispError: as `widths_of`, or the budget cannot be met.
    """
    widths, stocks = _preferring_none(recipe, prepared)
    limit = limit_of_widths(recipe)
    if recipe.method != "channels":
        return split(recipe, prepared, widths.model, widths, stocks).rehearsed
    if limit is not None:
        estimated_share(recipe, limit, widths.model, widths, stocks)
    elif recipe.speedup is None:
        _require_share(recipe, prepared, widths.share, least_share(widths, stocks))
    return None


def _preferring_none(recipe: Recipe, prepared: Prepared) -> tuple[Widths, tuple[Stock, ...]]:
    """What may be removed, where every channel is worth the same."""
    widths = widths_of(recipe, prepared)
    worth = {number: np.ones(widths.groups[number].width) for number in widths.free}
    return widths, stocks_of(recipe, widths.model, widths, worth, recipe.round_channels)


def _require_share(recipe: Recipe, prepared: Prepared, share: float, least: float) -> None:
    if least <= share + ROUNDING:
        return
    whose = "" if recipe.macs is not None else ", the default of --method channels,"
    finest, freed = (
        rounded_up(least_share(*_preferring_none(recipe.model_copy(update=other), prepared)))
        for other in ({"round_channels": 1}, {"keep_dense": ()})
    )
    ways = ""
    if float(finest) < float(rounded_up(least)):
        ways += (
            f" let widths be multiples of less than --round-channels {recipe.round_channels} (of 1: at least {finest}),"
        )
    if float(freed) < float(rounded_up(least)):
        ways += f" keep fewer layers dense than with --keep-dense (with none: at least {freed}),"
    raise CrispError(
        f"--macs {share:g}{whose} cannot be met: with the least of every group of channels the model still has "
        f"{least:.3g} of its MACs. Ask for at least {rounded_up(least)},{ways} or go on with zeros: --method "
        "channels+hybrid."
    )


def blocks_after(recipe: Recipe, before: Prepared, after: Prepared) -> tuple[Planner, Plan]:
    """The planner of the zeros on `after`, the narrower form of `before`, and what it plans where nothing is preferred.

    Raises:
        CrispError: the recipe's budget cannot be met with this form.
    """
    left = after.macs / max(1, before.macs)
    planner = within_pattern(make_planner(recipe_for_blocks(recipe, left), after), after.macs)
    return planner, rehearse(planner)


def split(recipe: Recipe, prepared: Prepared, model: Model, widths: Widths, stocks: Sequence[Stock]) -> Split:
    """The most that channels may leave so that the zeros can do the rest, at most the share that they are to take.

    Raises:
        CrispError: the budget is too small for as many channels and blocks gone as may go.
    """
    lowest = least_share(widths, stocks)
    limit = limit_of_channels(recipe, model, widths)
    most = widths.share if limit is None else share_within(recipe, limit, model, widths, stocks) or lowest
    most = max(most, lowest)
    grid = [share for share in np.linspace(lowest, 1, RUNGS) if share < most]
    refusals: list[CrispError] = []
    reached: list[tuple[float, float]] = []
    for share in (most, *reversed(grid)):  # each form is tried: fewer channels leave fewer layers that can be sparse
        after = narrowed(prepared, model, chosen_within(widths, stocks, float(share)), widths)
        try:
            planner, plan = blocks_after(recipe, prepared, after)
            if recipe.macs is None or plan.kept_macs <= (recipe.macs + BUDGET_TOLERANCE) * prepared.macs:
                return Split(float(share), planner, plan)
        except CrispError as error:
            refusals.append(error)
        if recipe.macs is not None and (share < most or not grid):
            reached += _least_macs(recipe, prepared, after)
    alone = [replace(item, dies=item.number in widths.dying) for item in stocks]
    asked = limit_of_widths(recipe)
    if asked is not None:
        raise CrispError(
            f"{asked.option} {asked.amount:g} cannot be met with --method {recipe.method}: {refusals[0]} With fewer "
            "channels left it cannot be met either; channels alone are estimated to take "
            f"{least_estimate(recipe, asked, model, widths, alone)} at the least."
        )
    if recipe.macs is None:
        raise CrispError(f"{refusals[0]} With fewer channels left it cannot be met either.")
    raise CrispError(
        f"--macs {recipe.macs:g} cannot be met with --method {recipe.method}: "
        f"{_what_can_be(reached)} `crisp-onnx check` shows which layers stay dense and why; channels alone leave "
        f"{rounded_up(least_share(widths, alone))} of the MACs at the least."
    )


def _what_can_be(reached: Sequence[tuple[float, float]]) -> str:
    if not reached:
        return "no layer can be sparse once so many channels are gone. Use --method channels or hybrid."
    least, left = min(reached)
    return (
        f"channels would have to leave {left:.3g} of the MACs and zeros {least / left:.3g} of those, as some "
        f"layers stay dense: {least:.3g} in all. Ask for at least {rounded_up(least)}."
    )


def rounded_up(share: float) -> str:
    """A share that is not less, in few digits."""
    return f"{ceil(share * 1000 - 1e-6) / 1000:g}"


def narrowed(before: Prepared, model: Model, choice: Choice, widths: Widths) -> Prepared:
    """What is known of `model`, the whole of `before`, without the channels of the choice; untrained, not proven."""
    narrow = cut(without(model, choice.dead, widths, {}), choice, widths).model
    return described(before.source, replace(before.simplified, model=narrow), before.size, before.asked, before.task)


def _least_macs(recipe: Recipe, before: Prepared, after: Prepared) -> list[tuple[float, float]]:
    """The shares of the MACs of `before` with as many blocks gone as may go, and with none; empty where none may go."""
    try:
        planner = make_planner(recipe.model_copy(update={"macs": 1.0}), after)
    except CrispError:
        return []
    dense = after.macs - sum(layer.macs for layer in planner.candidates.free)
    plan = rehearse(Threshold(planner.candidates, (dense + 1) / after.macs, of="macs"))
    return [(plan.kept_macs / before.macs, after.macs / before.macs)]
