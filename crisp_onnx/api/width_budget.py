"""The budget of widths, as a share of what the whole network costs, and the choice of channels within it."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.question import Question
from crisp_onnx.api.speedup import LEAD, TOLERANCE, measured, share_for
from crisp_onnx.api.width_estimate import chosen_within, estimated_share, least_share, narrowed_form
from crisp_onnx.api.width_time import limit_of_widths
from crisp_onnx.api.widths import Widths
from crisp_onnx.channels import Stock
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.recover import State


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

    Where zeros follow on channels, both are to be equally fast: channels take the square root of the speed. `part`:
    what the measured share is kept under.
    """
    limit = limit_of_widths(recipe)
    if limit is not None:
        return estimated_share(recipe, limit, model, widths, stocks)
    if recipe.speedup is None:
        return widths.share
    kept = checkpoint.get(f"speedup of {part}")
    if kept is not None:
        return float(kept.values["share"])
    speed = recipe.speedup if recipe.method == "channels" else sqrt(recipe.speedup)

    def gain(share: float) -> float:
        choice = chosen_within(widths, stocks, share)
        return measured(asked, narrowed_form(recipe, model, choice, widths, asked.prepared.size), folder)

    least = least_share(widths, stocks)
    found = share_for(LEAD * speed, gain, least, 1.0, name="--speedup", tolerance=TOLERANCE)
    checkpoint.put(f"speedup of {part}", State({}, {"share": found}))
    return found
