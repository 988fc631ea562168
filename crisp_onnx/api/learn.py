"""Cross to torch, score, choose masks, re-fit, recover, and cross back: the part of `compress` that changes weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from crisp_onnx.api.agreement import agree
from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.question import Question
from crisp_onnx.api.ready import Ready, make_ready
from crisp_onnx.api.refit import refit_of
from crisp_onnx.api.reorder import Reordering
from crisp_onnx.api.sight import sight_of
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.bridge import write_back
from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan, Planner
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.recover import MODES, Recovered, Training, put_masks, restore, trained_tensors, training_for

NOTHING_TO_LEARN = (
    "No layer becomes sparse, so the weights are as they were: nothing was trained. --target portable packs every "
    "layer for a smaller file, whatever its speed."
)


@dataclass(frozen=True)
class Learned:
    """`model`: the simplified graph with trained, masked weights. `held_out`: images kept back from training.

    `images`: None where none were given and nothing was to be learnt. `fits`: how layers were re-fitted. `reordering`:
    None where none was asked for.
    """

    model: Model
    plan: Plan
    images: Images | None
    held_out: Images | None
    epochs: int
    notes: tuple[str, ...]
    fits: tuple[LayerFit, ...] = ()
    reordering: Reordering | None = None


def learn(
    recipe: Recipe, asked: Question, *, planner: Planner, folder: Path, checkpoint: Checkpoint, watch: Stopwatch
) -> tuple[Learned, ...]:
    """Compress the weights for the user's classes, for each of several sparsities where the recipe has them.

    Where `asked` has no images to learn from, some are synthesised from the model itself; its bank takes the place of
    a backward pass.

    `planner`: of the question, short of layers that would gain nothing. `folder`: for models that are timed.
    `checkpoint`: what a run that was stopped had come to, from which this one goes on.

    Raises:
        CrispError: no such device, no images can be made, or the state kept is of another run.
    """
    torch.manual_seed(recipe.seed)
    prepared, given = asked.prepared, asked.images
    if not planner.candidates.free:
        plan, seen = planner.candidates.plan(()), None if given is None else sight_of(recipe, asked.form, given)
        images, held_out, told = (seen.images, seen.held_out, seen.notes) if seen else (None, None, ())
        return (Learned(prepared.model, plan, images, held_out, 0, (*told, NOTHING_TO_LEARN)),) * max(
            1, len(recipe.sparsities)
        )
    ready = make_ready(recipe, asked, planner=planner, folder=folder, checkpoint=checkpoint, watch=watch)
    module = ready.crossed.module
    agree(module, checkpoint, "weights before training")
    recovered, told = _recovered(recipe, ready, planner, checkpoint, watch)

    def learned(plan: Plan) -> Learned:
        trained = write_back(module.cpu(), ready.crossed.model)
        return Learned(
            trained, plan, ready.sight.images, ready.sight.held_out, ready.epochs, ready.notes + told, recovered.fits,
            ready.reordering,
        )  # fmt: skip

    if not recovered.levels:
        return (learned(recovered.plan),)
    several = []
    for level in recovered.levels:
        put_masks(module, level.plan, ready.task.weights)
        restore(trained_tensors(module), level.trained)
        several.append(learned(level.plan))
    return tuple(several)


def _recovered(
    recipe: Recipe, ready: Ready, planner: Planner, checkpoint: Checkpoint, watch: Stopwatch
) -> tuple[Recovered, tuple[str, ...]]:
    """Masks and weights by the recipe's mode of recovery, and what the user should know of it."""
    crossed, sight = ready.crossed, ready.sight
    told: tuple[str, ...] = ()
    mode = MODES[recipe.recovery if ready.epochs else "none"]
    with watch("recovery" if mode.trains else "masks"):
        training = Training(0, crossed.batch)
        if mode.trains:
            training, told = training_for(
                crossed.module, sight.images, sight.held_out or sight.images, ready.task, ready.epochs,
                batch_size=crossed.batch, seed=recipe.seed, patience=recipe.patience,
            )  # fmt: skip
            if training.batch_size < checkpoint.processes.count:
                raise CrispError(
                    f"Batches of {training.batch_size} images are too few for {checkpoint.processes.count} processes. "
                    "Start fewer, or give more images."
                )
        refit = refit_of(recipe, sight, planner.candidates, crossed.batch, watch, trains=mode.trains)
        recovered = mode.recover(
            crossed.module, sight.images, ready.statistics, ready.task, training, refit, checkpoint
        )
    return recovered, (*told, *recovered.notes)
