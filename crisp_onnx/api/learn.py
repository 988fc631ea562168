"""Cross to torch, score, choose masks, re-fit, recover, and cross back: the part of `compress` that changes weights."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crisp_onnx.api.acceptance import Accepted
from crisp_onnx.api.allocation import ALLOCATIONS, Ground
from crisp_onnx.api.checkpoint import Checkpoint, as_first
from crisp_onnx.api.criterion_statistics import statistics_for
from crisp_onnx.api.crossing import Crossed, anew, cross, with_batch_norm
from crisp_onnx.api.device import find_device
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.reorder import Reordering, reorder_channels
from crisp_onnx.api.sight import Sight, parted, see, sight_of
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.bridge import GraphModule, write_back
from crisp_onnx.data import Images, InputForm
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Candidates, Plan, Planner
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.reconstruct import FIT, FIT_BEFORE_TRAINING, METHODS, LayerFit, Refitted
from crisp_onnx.recover import (
    MODES,
    Refit,
    State,
    Task,
    Training,
    finetune,
    fits_from,
    fits_state,
    plan_from,
    plan_state,
    put_masks,
    restore,
    saliency_of,
    trained_tensors,
    training_for,
)
from crisp_onnx.saliency import Bank
from crisp_onnx.task import Classification, Head

log = logging.getLogger(__name__)

EPOCHS_WITH_IMAGES = 20
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
    recipe: Recipe,
    accepted: Accepted,
    *,
    planner: Planner,
    answers: Classification,
    form: InputForm,
    given: Images | None,
    bank: Bank | None,
    checkpoint: Checkpoint,
    watch: Stopwatch,
) -> tuple[Learned, ...]:
    """Compress the weights for the user's classes, for each of several sparsities where the recipe has them.

    Without `given` images, some are synthesised from the model itself.

    `bank`: sums from which saliency is taken instead of a backward pass. `checkpoint`: what a run that was stopped had
    come to, from which this one goes on.

    Raises:
        CrispError: no such device, no images can be made, or the state kept is of another run.
    """
    torch.manual_seed(recipe.seed)
    prepared = accepted.prepared
    if not planner.candidates.free:
        plan, seen = planner.candidates.plan(()), None if given is None else sight_of(recipe, form, given)
        images, held_out, told = (seen.images, seen.held_out, seen.notes) if seen else (None, None, ())
        return (Learned(prepared.model, plan, images, held_out, 0, (*told, NOTHING_TO_LEARN)),) * max(
            1, len(recipe.sparsities)
        )
    task = make_task(recipe, planner, answers)
    with watch("bridge"):
        crossed = cross(accepted, find_device(recipe.device))
        crossed.module.processes = checkpoint.processes
    with watch("images"):
        sight = see(recipe, prepared, crossed, answers, form, given, checkpoint)
    epochs, notes = epochs_for(recipe, crossed, given)
    if recipe.first_finetune and crossed.batch > 1:
        with watch("first"):
            crossed, told = _finetuned(recipe, crossed, sight, task, prepared.head, checkpoint)
            notes += told
    with watch("saliency"):
        statistics = statistics_for(bank, task, crossed, sight.images, recipe.seed, checkpoint)
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
    agree(crossed.module, checkpoint, "weights before training")
    mode = MODES[recipe.recovery if epochs else "none"]
    with watch("recovery" if mode.trains else "masks"):
        training = Training(0, crossed.batch)
        if mode.trains:
            training, told = training_for(
                crossed.module, sight.images, sight.held_out or sight.images, task, epochs,
                batch_size=crossed.batch, seed=recipe.seed, patience=recipe.patience,
            )  # fmt: skip
            notes += told
            if training.batch_size < checkpoint.processes.count:
                raise CrispError(
                    f"Batches of {training.batch_size} images are too few for {checkpoint.processes.count} processes. "
                    "Start fewer, or give more images."
                )
        recovered = mode.recover(
            crossed.module, sight.images, statistics, task, training,
            _refit(recipe, sight, planner.candidates, crossed.batch, watch, trains=mode.trains), checkpoint,
        )  # fmt: skip
    notes = sight.notes + notes + recovered.notes

    def learned(plan: Plan) -> Learned:
        trained = write_back(crossed.module.cpu(), crossed.model)
        return Learned(trained, plan, sight.images, sight.held_out, epochs, notes, recovered.fits, reordering)

    if not recovered.levels:
        return (learned(recovered.plan),)
    several = []
    for level in recovered.levels:
        put_masks(crossed.module, level.plan, task.weights)
        restore(trained_tensors(crossed.module), level.trained)
        several.append(learned(level.plan))
    return tuple(several)


def _refit(
    recipe: Recipe, sight: Sight, candidates: Candidates, batch: int, watch: Stopwatch, *, trains: bool
) -> Refit:
    """The recipe's reconstruction on the images that are learnt from. Some of them judge it, or those held out.

    Of several processes, the first one does it and the others get what it comes to.
    """
    images, judged = sight.images, sight.held_out
    if judged is None:
        images, judged = parted(images, recipe.seed)

    look = FIT_BEFORE_TRAINING if trains else FIT
    choice = "saliency" if recipe.recovery == "nested" else recipe.masks  # sparser masks lie inside denser ones

    def refit(module: GraphModule, plan: Plan) -> Refitted:
        state = None
        with watch("reconstruct"):
            if module.processes.first:
                found = METHODS[recipe.reconstruct](
                    module, plan, images, judged, choice=choice, batch_size=batch, look=look, seed=recipe.seed
                )
                if module.processes.count == 1:
                    return found
                state = plan_state(found.plan) | fits_state(found.fits)
            state = as_first(state, module.processes) or State()
            module.processes.spread(trained_tensors(module))
        plan = plan_from(state, candidates)
        put_masks(module, plan)
        return Refitted(plan, fits_from(state))

    return refit


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


def agree(module: GraphModule, checkpoint: Checkpoint, what: str) -> None:
    """Whether training starts from the same weights in all processes, and in the run that was stopped.

    Raises:
        CrispError: it does not.
    """
    found = _digest(module)
    if checkpoint.processes.told(found) != found:
        raise CrispError(
            "The processes of torchrun come to different weights before training. Use machines of one kind."
        )
    checkpoint.agree(what, found)


def _digest(module: GraphModule) -> str:
    """Of all weights and statistics, bit for bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in trained_tensors(module).items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
