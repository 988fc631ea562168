"""Find how much must go for a speed that is asked for: models are made and measured before anything is trained."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.gains import Gains, gains_kept, written_form
from crisp_onnx.api.planning import rehearse
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.question import Question
from crisp_onnx.api.steady import steady
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan, Saliency, Threshold
from crisp_onnx.model import Model, save
from crisp_onnx.recipe import PORTABLE, Recipe
from crisp_onnx.recover import State, Task
from crisp_onnx.runtime.latency import measure_files
from crisp_onnx.writing import hidden_name

TOLERANCE = 0.05
"""A speed counts as met within a twentieth: two measurements differ by that much."""
LEAD = 1.05
"""What is aimed at before training, over what is asked: the tolerance is left to the end alone."""
CONFIRMATIONS, CLOSER = 3, 0.93
TRIALS, NEAR = 7, 0.02
LEAST_KEPT = 0.03
TRIAL_BUDGET_S = 1.0
log = logging.getLogger(__name__)


def share_for(
    asked: float,
    gain: Callable[[float], float],
    least: float,
    most: float,
    *,
    name: str,
    lead: float = 1.0,
    tolerance: float = 0.0,
) -> float:
    """The largest share found that gains what is asked: `gain(share)` grows as the share falls.

    Args:
        gain: of what is asked for, with that share left; measured or computed.
        least, most: the smallest and the largest share that there are.
        lead: what is aimed at, over what is asked: measurements, and plans under another saliency, differ.
        tolerance: how much less than asked the least share may gain.

    Raises:
        CrispError: even the least share gains less.
    """
    aim = lead * asked
    low = least
    require_gain(asked, gain(least), name=name, tolerance=tolerance)
    if gain(most) >= aim:
        low = most
    for _ in range(TRIALS):
        if most - low < NEAR * low:
            break
        tried = (low * most) ** 0.5
        found = gain(tried)
        log.info("%s with %.3f left: %.2f", name, tried, found)
        if found >= aim:
            low = tried
        else:
            most = tried
    for _ in range(CONFIRMATIONS):  # of many measurements the one that was kept is likely to have been a lucky one
        if low == least or gain(low) >= aim:
            break
        low = max(least, low * CLOSER)
    return low


def require_gain(asked: float, best: float, *, name: str, tolerance: float) -> None:
    """Refuse what even the least that can be left, which gains `best`, does not gain.

    Raises:
        CrispError: `best` is less than asked by more than the tolerance.
    """
    log.info("%s with the least that can be left: %.2f", name, best)
    if best < asked * (1 - tolerance):
        raise CrispError(
            f"{name} {asked:g} cannot be met: with the least that can be left, it is {best:.2f}. Ask for no more."
        )


def share_for_both(
    asked: float, gain: Callable[[float], float], gain_of_both: Callable[[float], float], least: float
) -> float:
    """The largest share for channels with which they are the square root as fast, and zeros can do the rest.

    `gain_of_both`: with as many blocks gone as may go too.

    Raises:
        CrispError: even with the least of both the model is not as fast as asked.
    """
    part = sqrt(asked)
    found = least
    if gain(least) >= part:
        found = share_for(
            part, gain, least, 1.0, name="--speedup, the part of channels,", lead=LEAD, tolerance=TOLERANCE
        )
    if found > least and gain_of_both(found) >= LEAD * asked:
        return found
    return share_for(asked, gain_of_both, least, found, name="--speedup", lead=LEAD, tolerance=TOLERANCE)


def measured(prepared: Prepared, model: Model, folder: Path) -> float:
    """How many times as fast as its source the model is on this host."""
    own = folder / hidden_name()
    own.mkdir()
    try:
        path = own / "model.onnx"
        save(model, path)
        source = prepared.source
        with steady(source, own) as dense:
            timing = measure_files([dense, path], source.input, size=prepared.size, budget_s=TRIAL_BUDGET_S)
        return timing.ratios[1].median
    finally:
        shutil.rmtree(own)


def timed_plan(
    recipe: Recipe, asked: Question, bench: Path, checkpoint: Checkpoint, *, trained: bool
) -> tuple[Question, Gains]:
    """The question with a plan as fast as the recipe asks, and what became of layers that are not faster sparse."""
    asked = fast_enough(recipe, asked, bench, checkpoint, trained=trained)
    gains = gains_kept(recipe, asked.prepared, asked.planner, asked.rehearsed, bench, checkpoint, trained=trained)
    if recipe.speedup is None or len(gains.planner.candidates.free) == len(asked.planner.candidates.free):
        return asked, gains
    asked = replace(asked, planner=gains.planner)
    asked = fast_enough(recipe, asked, bench, checkpoint, part=" of faster layers", trained=trained)
    return asked, replace(gains, planner=asked.planner)


def fast_enough(
    recipe: Recipe,
    asked: Question,
    folder: Path,
    checkpoint: Checkpoint,
    *,
    part: str = "",
    trained: bool = False,
) -> Question:
    """The same question with a planner under whose plan the model is as fast as the recipe asks for.

    `part`: what the share is kept under, where there is more than one. `trained`: hours are spent already, so that what
    is not fast enough with the least that may be left is finished all the same, and missed in the report.

    Raises:
        CrispError: no sparsity makes it so fast.
    """
    planner = asked.planner
    if recipe.speedup is None or not isinstance(planner, Threshold) or not planner.candidates.free:
        return asked
    found = _paced(
        recipe, recipe.speedup, asked.prepared, planner, rehearse, folder, checkpoint, part=part, trained=trained
    )
    return replace(asked, planner=found, rehearsed=rehearse(found))


def fast_as_planned(
    recipe: Recipe, prepared: Prepared, task: Task, saliency: Saliency, folder: Path, checkpoint: Checkpoint
) -> Task:
    """The task with a planner under whose plan for this `saliency` the model is as fast as the recipe asks for.

    Layers share the budget otherwise than in a rehearsal: by what was measured of them, and time does not follow their
    MACs alone. What is not fast enough with the least that may be left is finished all the same.
    """
    planner = task.planner
    if recipe.speedup is None or not isinstance(planner, Threshold):
        return task

    def plan_of(tried: Threshold) -> Plan:
        return tried.plan(saliency)

    found = _paced(
        recipe, recipe.speedup, prepared, planner, plan_of, folder, checkpoint, part=" as planned", trained=True
    )
    return replace(task, planner=found)


def _paced(
    recipe: Recipe,
    speedup: float,
    prepared: Prepared,
    planner: Threshold,
    plan_of: Callable[[Threshold], Plan],
    folder: Path,
    checkpoint: Checkpoint,
    *,
    part: str,
    trained: bool,
) -> Threshold:
    """The planner that leaves the largest share with whose plan the model is fast enough; kept in the checkpoint."""

    def gain(share: float) -> float:
        plan = plan_of(planner.leaving(share))
        return measured(prepared, written_form(recipe, prepared.model, plan, size=prepared.size), folder)

    kept = checkpoint.get(f"speedup{part}")
    if kept is not None:
        return planner.leaving(float(kept.values["share"]))
    share = 0.0
    if checkpoint.processes.first:  # the one that writes measures
        share = share_for(
            speedup, gain, LEAST_KEPT, planner.candidates.pattern.density, name="--speedup", lead=LEAD,
            tolerance=1.0 if trained else TOLERANCE,
        )  # fmt: skip
    share = float(checkpoint.processes.told(share))
    checkpoint.put(f"speedup{part}", State({}, {"share": share}))
    return planner.leaving(share)


def refuse_speedup(recipe: Recipe) -> None:
    """What cannot be measured on this host, or is no faster in it.

    Raises:
        CrispError: the recipe asks for a speed of that.
    """
    if recipe.speedup is None:
        return
    if recipe.target not in (None, PORTABLE):
        raise CrispError(
            "--speedup is measured on this host, so it goes without --target. Ask for --latency-ms on that target."
        )
    if recipe.emit == "dense" and recipe.method == "hybrid":
        raise CrispError(
            "--emit dense leaves zeros in ordinary operators, which are no faster. Leave out it or --speedup."
        )
