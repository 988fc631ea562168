"""From the simplified model to what recovery starts with: crossed, scored, reordered, its budget shared out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from crisp_onnx.api.allocation import ALLOCATIONS, Ground
from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.criterion_statistics import statistics_for
from crisp_onnx.api.crossing import Crossed, anew, cross, with_batch_norm
from crisp_onnx.api.device import find_device
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.question import Question
from crisp_onnx.api.reorder import Reordering, reorder_channels
from crisp_onnx.api.sight import Sight, parted, see
from crisp_onnx.api.speedup import fast_as_planned
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.bridge import write_back
from crisp_onnx.data import Images
from crisp_onnx.masks import Planner
from crisp_onnx.recipe import Recipe
from crisp_onnx.recover import Task, finetune, saliency_of, training_for
from crisp_onnx.task import Head

EPOCHS_WITH_IMAGES = 20


@dataclass(frozen=True)
class Ready:
    """What recovery starts with. `statistics`: of the criterion, by weight. `reordering`: None where none was asked."""

    crossed: Crossed
    sight: Sight
    task: Task
    statistics: Mapping[str, Tensor]
    epochs: int
    reordering: Reordering | None
    notes: tuple[str, ...]


def make_ready(
    recipe: Recipe, asked: Question, *, planner: Planner, folder: Path, checkpoint: Checkpoint, watch: Stopwatch
) -> Ready:
    """Every stage before the masks are put on. The arguments are those of `learn`."""
    prepared, given = asked.prepared, asked.images
    task = make_task(recipe, planner, asked.answers)
    with watch("bridge"):
        crossed = cross(asked.accepted, find_device(recipe.device))
        crossed.module.processes = checkpoint.processes
    with watch("images"):
        sight = see(recipe, prepared, crossed, asked.answers, asked.form, given, checkpoint)
    epochs, notes = epochs_for(recipe, crossed, given)
    if recipe.first_finetune and crossed.batch > 1:
        with watch("first"):
            crossed, told = _finetuned(recipe, crossed, sight, task, prepared.head, checkpoint)
            notes += told
    with watch("saliency"):
        statistics = statistics_for(asked.bank, task, crossed, sight.images, recipe.seed, checkpoint)
    reordering = None
    if recipe.reorder:
        with watch("reordering"):
            crossed, statistics, reordering = _reordered(crossed, statistics, task, prepared)
    if not crossed.module.statistics:
        with watch("statistics"):
            crossed = with_batch_norm(crossed, sight.images, prepared.head)
    if recipe.allocation != "saliency":
        with watch("allocation"):
            judged = sight.held_out or parted(sight.images, recipe.seed)[1]
            ground = Ground(
                crossed.module, statistics, sight.images, judged, crossed.batch, recipe.seed, trains=bool(epochs)
            )
            task = ALLOCATIONS[recipe.allocation](task, ground, checkpoint)
    if recipe.speedup is not None:
        with watch("timing"):
            saliency = saliency_of(crossed.module, statistics, task)
            task = fast_as_planned(recipe, prepared, task, saliency, folder, checkpoint)
    return Ready(crossed, sight, task, statistics, epochs, reordering, sight.notes + notes)


def epochs_for(recipe: Recipe, crossed: Crossed, given: Images | None) -> tuple[int, tuple[str, ...]]:
    """Passes of training, and why there are none where the file forbids it."""
    epochs = recipe.epochs
    if epochs is None:
        epochs = 0 if given is None else EPOCHS_WITH_IMAGES
    if epochs and crossed.batch < 2:
        note = "The file fixes the batch at one image, so it is not fine-tuned. Export it with a dynamic batch."
        return 0, (note,)
    return epochs, ()


def _finetuned(
    recipe: Recipe, crossed: Crossed, sight: Sight, task: Task, head: Head, checkpoint: Checkpoint
) -> tuple[Crossed, tuple[str, ...]]:
    """The dense network after its own training on the user's images, and what the user should know of that."""
    if not crossed.module.statistics:
        crossed = with_batch_norm(crossed, sight.images, head)
    asked = sight.held_out or sight.images
    training, _ = training_for(
        crossed.module, sight.images, asked, task, recipe.first_finetune, batch_size=crossed.batch, seed=recipe.seed,
        patience=recipe.patience,
    )  # fmt: skip
    notes = finetune(crossed.module, sight.images, task, training, checkpoint)
    model = write_back(copy.deepcopy(crossed.module).cpu(), crossed.model)
    told = f"The dense model was fine-tuned first, for {recipe.first_finetune} epochs, and taught the sparse one."
    return replace(crossed, model=model), (told, *notes)


def _reordered(
    crossed: Crossed, statistics: Mapping[str, Tensor], task: Task, prepared: Prepared
) -> tuple[Crossed, Mapping[str, Tensor], Reordering]:
    """The same function on channels in the order that suits the pattern best, and the statistics in that order."""
    saliency = saliency_of(crossed.module, statistics, task)
    found = reorder_channels(crossed.model, task.planner, saliency, statistics, size=prepared.size)
    if found.model is not crossed.model:
        crossed = anew(crossed, found.model, prepared.head)
    return crossed, found.statistics, found.told
