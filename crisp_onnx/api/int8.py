"""From the emitted model to its int8 form: calibrate, and choose by measurement what computes in int8."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from crisp_onnx.api.emit import Emitted, emission_notes
from crisp_onnx.api.learn import Learned
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.format import with_bodies
from crisp_onnx.masks import Plan, Planner
from crisp_onnx.model import Model
from crisp_onnx.passes import dense_passes, hybrid_passes, run_passes
from crisp_onnx.quantize import (
    MOST_POINTS,
    Chosen,
    Emission,
    choose,
    faster_in_float32,
    faster_whole,
    passes,
    rejudged,
    spare_layers,
    trained_rounded,
)
from crisp_onnx.recipe import Recipe
from crisp_onnx.recover import Task
from crisp_onnx.report.schema import Quantisation
from crisp_onnx.runtime.profit import Verdict
from crisp_onnx.task import Classification

log = logging.getLogger(__name__)

INT8 = "int8"
NO_IMAGES = (
    "The file is in float32: nothing was to be learnt and no images were given, so there is nothing to calibrate int8 "
    "on. Give some with --data."
)
IN_VAIN = "{} passes of training with rounding in the loop did not help, so the weights are those before them."


@dataclass(frozen=True)
class Int8:
    """`layers`: those in int8, by node name; `left`: why others stay in float32. `entry`: what the report says.

    `in_float32`: verdicts on the sparse layers in float32, where they were timed.
    """

    layers: frozenset[str]
    left: Mapping[str, str]
    entry: Quantisation
    in_float32: Mapping[str, Verdict]


def in_int8(
    emitted: Emitted, recipe: Recipe, prepared: Prepared, learned: Learned, planner: Planner, answers: Classification
) -> tuple[Emitted, Int8 | None]:
    """The emitted model in int8, and what was chosen; unchanged where there are no images to calibrate on.

    `answers`: what the outputs of the emitted model mean. `planner`: of the masks.

    Raises:
        CrispError: the model does not run on the images, or ONNX Runtime's quantiser fails.
    """
    images, held_out = learned.images, learned.held_out
    if images is None:
        return replace(emitted, notes=(*emitted.notes, NO_IMAGES)), None
    whole = faster_whole(emitted.model, size=prepared.size) if emitted.verdicts else frozenset()
    source = Emission(emitted.model, _folded(emitted), answers, prepared.size, prepared.batch, whole)
    verdicts, slow = faster_in_float32(emitted.model, emitted.verdicts, whole, size=prepared.size)
    chosen, final, epochs = choose(source, images, held_out, keep=slow), source, 0
    notes = emission_notes(recipe, verdicts)
    if chosen.loss.lost > MOST_POINTS and learned.epochs and held_out is not None:
        task = make_task(recipe, planner, answers)
        trained = _trained(source, emitted, learned, task, chosen, seed=recipe.seed)
        again = rejudged(source, trained, chosen, images, held_out)
        if again.loss.rank < chosen.loss.rank:
            chosen, final, epochs = again, trained, passes(learned.epochs)
        else:
            notes = (*notes, IN_VAIN.format(passes(learned.epochs)))
    if chosen.loss.lost > MOST_POINTS:
        chosen = spare_layers(final, chosen, images, held_out, against=source.hybrid)
    found = chosen.quantised
    judged_on = "held-out training images" if held_out is not None else "images that were learnt from"
    done = Int8(frozenset(found.layers), found.left, _entry(chosen, judged_on, epochs), emitted.verdicts)
    declined = (*emitted.declined, *found.declined)
    told = (*notes, _note(chosen))
    return replace(emitted, model=found.model, declined=declined, notes=told, verdicts=verdicts), done


def _trained(
    source: Emission, emitted: Emitted, learned: Learned, task: Task, chosen: Chosen, *, seed: int
) -> Emission:
    """The network after a short training with rounding in the loop, emitted as it was before."""
    if learned.images is None or learned.held_out is None:
        return source
    dense = trained_rounded(
        source, learned.plan, task, chosen.grids, chosen.quantised.layers, learned.images, learned.held_out,
        epochs=passes(learned.epochs), seed=seed,
    )  # fmt: skip
    graph = dense.graph()
    run_passes(hybrid_passes(emitted.plan) if any(emitted.plan.sparse()) else (), graph)
    hybrid = with_bodies(dense.with_graph(graph).with_metadata(emitted.model.metadata))
    return replace(source, dense=dense, hybrid=hybrid)


def _folded(emitted: Emitted) -> Model:
    """The masked dense graph as hybrid operators stand for it: BatchNorm folded."""
    graph = emitted.masked.graph()
    run_passes(dense_passes(Plan()), graph)
    return emitted.masked.with_graph(graph)


def _entry(chosen: Chosen, judged_on: str, epochs: int) -> Quantisation:
    found = chosen.quantised
    return Quantisation(
        method=chosen.method,
        calibration_images=chosen.calibrated,
        points_lost=chosen.loss.points,
        points_lost_expected=chosen.loss.expected,
        points_lost_spread=chosen.loss.spread,
        error=chosen.loss.error,
        judged=chosen.judged,
        judged_on=judged_on,
        layers=len(found.layers),
        layers_float32=len(found.left),
        epochs=epochs,
    )


def _note(chosen: Chosen) -> str:
    total = len(chosen.quantised.layers) + len(chosen.quantised.left)
    loss, lost = chosen.loss, chosen.loss.points
    change = "as many answers are right" if lost == 0 else f"{abs(lost):.1f} points are {'lost' if lost > 0 else 'won'}"
    expected = f"by how far probabilities move {loss.expected:.2f} points (+-{loss.spread:.2f}) are to be expected"
    return (
        f"{len(chosen.quantised.layers)} of {total} layers compute in int8, with ranges by {chosen.method} over "
        f"{chosen.calibrated} images: {change} against the same network in float32 on {chosen.judged} images; "
        f"{expected}."
    )
