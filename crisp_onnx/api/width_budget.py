"""The budget of widths, as a share of what the whole network costs, and the choice of channels within it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.gains import written_form
from crisp_onnx.api.planning import rehearse
from crisp_onnx.api.question import Question
from crisp_onnx.api.speedup import LEAD, LEAST_KEPT, TOLERANCE, measured, require_gain, share_for, share_for_both
from crisp_onnx.api.width_estimate import chosen_within, estimated_share, least_share, narrowed_form, stocks_of
from crisp_onnx.api.width_split import blocks_after, narrowed, split
from crisp_onnx.api.width_time import limit_of_widths
from crisp_onnx.api.widths import Widths, widths_of
from crisp_onnx.channels import Stock
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Threshold
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.recover import State

log = logging.getLogger(__name__)


def share_of_cost(
    recipe: Recipe,
    asked: Question,
    model: Model,
    widths: Widths,
    stocks: Sequence[Stock],
    folder: Path,
    checkpoint: Checkpoint,
    *,
    part: str = "widths",
) -> float:
    """The share that widths may leave: as asked, or so little that the narrower network is as fast as asked.

    Where zeros follow on channels, both are to be equally fast: channels take the square root of the speed, and more
    where zeros cannot do the rest. `part`: what the measured share is kept under.

    Raises:
        CrispError: the budget is too small for the least widths, with the fewest blocks where zeros follow.
    """
    limit, together = limit_of_widths(recipe), recipe.method != "channels"
    if recipe.speedup is None and together:
        return split(recipe, asked.prepared, model, widths, stocks).share
    if limit is not None:
        return estimated_share(recipe, limit, model, widths, stocks)
    if recipe.speedup is None:
        return widths.share
    kept = checkpoint.get(f"speedup of {part}")
    if kept is not None:
        return float(kept.values["share"])

    gain, gain_of_both = (partial(one, recipe, asked, model, widths, stocks, folder) for one in (_gain, _gain_of_both))
    least = least_share(widths, stocks)
    if together:
        found = share_for_both(recipe.speedup, gain, gain_of_both, least)
        blocks_after(
            recipe, asked.prepared, narrowed(asked.prepared, model, chosen_within(widths, stocks, found), widths)
        )
    else:
        found = share_for(recipe.speedup, gain, least, 1.0, name="--speedup", lead=LEAD, tolerance=TOLERANCE)
    checkpoint.put(f"speedup of {part}", State({}, {"share": found}))
    return found


def require_speed(recipe: Recipe, asked: Question, folder: Path, checkpoint: Checkpoint) -> None:
    """Measure the least that can be left, before anything long, so that what it does not reach is refused at once.

    Raises:
        CrispError: it is not as fast as asked.
    """
    if recipe.speedup is None or checkpoint.get("speedup of widths") is not None:
        return
    widths = widths_of(recipe, asked.prepared)
    worth = {number: np.ones(widths.groups[number].width) for number in widths.free}
    stocks = stocks_of(recipe, widths.model, widths, worth, recipe.round_channels)
    with_least = (recipe, asked, widths.model, widths, stocks, folder, least_share(widths, stocks))
    best = (_gain if recipe.method == "channels" else _gain_of_both)(*with_least)
    require_gain(recipe.speedup, best, name="--speedup", tolerance=TOLERANCE)


def _gain(
    recipe: Recipe, asked: Question, model: Model, widths: Widths, stocks: Sequence[Stock], folder: Path, share: float
) -> float:
    """How many times as fast as its source the model is, with that share of its cost left by fewer channels."""
    choice = chosen_within(widths, stocks, share)
    return measured(asked.prepared, narrowed_form(recipe, model, choice, widths, asked.prepared.size), folder)


def _gain_of_both(
    recipe: Recipe, asked: Question, model: Model, widths: Widths, stocks: Sequence[Stock], folder: Path, share: float
) -> float:
    """The same, with as many blocks of what is left gone as may go; none where no layer left can be sparse."""
    after = narrowed(asked.prepared, model, chosen_within(widths, stocks, share), widths)
    try:
        planner = blocks_after(recipe, asked.prepared, after)[0]
    except CrispError as error:
        log.info("with %.3f left by channels no zeros follow: %s", share, error)
        return _gain(recipe, asked, model, widths, stocks, folder, share)
    plan = rehearse(planner.leaving(LEAST_KEPT)) if isinstance(planner, Threshold) else rehearse(planner)
    return measured(asked.prepared, written_form(recipe, after.model, plan, size=after.size), folder)
