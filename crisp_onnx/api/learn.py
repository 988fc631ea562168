"""Cross to torch, score, choose masks, re-fit, recover, and cross back: the part of `compress` that changes weights."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.api.acceptance import Accepted
from crisp_onnx.api.allocation import layer_curves
from crisp_onnx.api.checkpoint import Checkpoint, as_first
from crisp_onnx.api.device import find_device
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.reorder import Reordering, reorder_channels
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.bridge import GraphModule, prepared_for, to_torch, usable_batch, write_back
from crisp_onnx.data import Images, InputForm, Preprocess, hold_out
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Candidates, Plan, Planner
from crisp_onnx.model import Model
from crisp_onnx.passes import InsertBatchNorm, run_passes
from crisp_onnx.recipe import Recipe
from crisp_onnx.reconstruct import METHODS, LayerFit, Refitted
from crisp_onnx.recover import (
    MODES,
    Refit,
    State,
    Task,
    Training,
    copied,
    finetune,
    fits_from,
    fits_state,
    output_moments,
    plan_from,
    plan_state,
    put_masks,
    restore,
    saliency_of,
    trained_tensors,
    training_for,
)
from crisp_onnx.saliency import Bank, Sums, collect, statistic_of
from crisp_onnx.saliency.collection import by_class, shape_of, sums_of
from crisp_onnx.saliency.sums import merged
from crisp_onnx.synthesis import as_synthesised, effort_for, synthesise
from crisp_onnx.task import CLASSIFICATION, SEGMENTATION, Classification, Head, layers_behind

log = logging.getLogger(__name__)

BATCH_OF_LARGE_IMAGES, LARGE_PIXELS = 32, 128 * 128
# Maps in full size in every layer, so the fewer the larger; two at least, for BatchNorm.
MOST_OF_MAPS, PIXELS_OF_MAPS = 16, 1 << 20
BATCHES: Mapping[str, Callable[[int], int]] = MappingProxyType(
    {
        CLASSIFICATION: lambda pixels: BATCH_OF_LARGE_IMAGES if pixels > LARGE_PIXELS else 64,
        SEGMENTATION: lambda pixels: max(2, min(MOST_OF_MAPS, PIXELS_OF_MAPS // pixels)),
    }
)
"""Images of so many pixels that are learnt from at once, by task."""
HELD_OUT = 0.1
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


@dataclass(frozen=True)
class Crossed:
    """The model on both sides of the bridge, and the images it takes at once."""

    model: Model
    module: GraphModule
    batch: int


@dataclass(frozen=True)
class Sight:
    """What is learnt from, what is kept back, and what the user should know of it."""

    images: Images
    held_out: Images | None
    notes: tuple[str, ...]


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
        plan, seen = planner.candidates.plan(()), None if given is None else _given(recipe, form, given)
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
        statistics = _statistics(bank, task, crossed, sight.images, recipe.seed, checkpoint)
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
            curves = layer_curves(
                crossed.module, task, sight.images, judged, checkpoint, batch_size=crossed.batch, seed=recipe.seed
            )
            task = task.measured(curves)
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
            _refit(recipe, sight, planner.candidates, crossed.batch, watch), checkpoint,
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


def _refit(recipe: Recipe, sight: Sight, candidates: Candidates, batch: int, watch: Stopwatch) -> Refit:
    """The recipe's reconstruction on the images that are learnt from. Some of them judge it, or those held out.

    Of several processes, the first one does it and the others get what it comes to.
    """
    images, judged = sight.images, sight.held_out
    if judged is None:
        images, judged = parted(images, recipe.seed)

    choice = "saliency" if recipe.recovery == "nested" else recipe.masks  # sparser masks lie inside denser ones

    def refit(module: GraphModule, plan: Plan) -> Refitted:
        state = None
        with watch("reconstruct"):
            if module.processes.first:
                found = METHODS[recipe.reconstruct](
                    module, plan, images, judged, choice=choice, batch_size=batch, seed=recipe.seed
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


def parted(images: Images, seed: int) -> tuple[Images, Images]:
    """Some images to fit to and some to judge by; a single one is both."""
    if len(images) < 2:
        return images, images
    one_each = images.labels is not None and len(np.unique(images.labels)) == len(images)
    return hold_out(replace(images, labels=None) if one_each else images, HELD_OUT, seed=seed)


def cross(accepted: Accepted, device: torch.device) -> Crossed:
    """Put the module on the device, and find out how many images it takes at once."""
    prepared, module = accepted.prepared, prepared_for(device, accepted.module)
    wanted = BATCHES[prepared.task](prod(prepared.size))
    batch = usable_batch(module, prepared.model.input, wanted, fixed=prepared.batch, size=prepared.size)
    return Crossed(prepared.model, module, batch)


def see(
    recipe: Recipe,
    prepared: Prepared,
    crossed: Crossed,
    answers: Classification,
    form: InputForm,
    given: Images | None,
    checkpoint: Checkpoint,
) -> Sight:
    """The images to learn from, synthesised where none are given, and those held out of them."""
    if given is None:
        assumed = (f"{form.assumed.capitalize()}.",) if form.assumed else ()
        if not isinstance(form, Preprocess):
            raise CrispError("Rows of values cannot be synthesised from a model. Give some with --data.")
        effort = replace(effort_for(form.size, len(answers.wanted), prepared.macs), batch=crossed.batch)
        images = _made(form, checkpoint, lambda: synthesise(crossed.module, answers, form, effort, seed=recipe.seed))
        note = (
            f"No images to learn from were given: {len(images)} were synthesised from the model itself. Saliency "
            "follows what the model believes of its classes. Pass --data to learn from real images."
        )
        return Sight(images, None, (*assumed, note))
    return _given(recipe, form, given)


def _made(form: Preprocess, checkpoint: Checkpoint, make: Callable[[], Images]) -> Images:
    """The images that `make` gives, or those that a run which was stopped had made."""
    kept = checkpoint.get("images")
    if kept is not None:
        return as_synthesised(kept.tensors["pixels"].numpy(), kept.tensors["labels"].numpy(), form)
    images = make()
    pixels = np.concatenate(
        [images.store.read(images.rows[[place]], images.preprocess) for place in range(len(images))]
    )
    checkpoint.put("images", State({"pixels": torch.tensor(pixels), "labels": torch.tensor(images.labels)}))
    return images


def _given(recipe: Recipe, form: InputForm, given: Images) -> Sight:
    """The images given, without those held out."""
    assumed = (f"{form.assumed.capitalize()}.",) if form.assumed else ()
    notes = (*assumed, *given.told())
    if not spares_some(given):
        return Sight(given, None, notes)
    images, held_out = hold_out(given, HELD_OUT, seed=recipe.seed)
    return Sight(images, held_out, notes)


def spares_some(given: Images) -> bool:
    """Whether there are enough images to hold some of each class out."""
    of_a_class = [len(given)] if given.labels is None else np.unique(given.labels, return_counts=True)[1]
    return bool(min(of_a_class) > 1)


def epochs_for(recipe: Recipe, crossed: Crossed, given: Images | None) -> tuple[int, tuple[str, ...]]:
    """Passes of training, and why there are none where the file forbids it."""
    epochs = recipe.epochs
    if epochs is None:
        epochs = 0 if given is None else EPOCHS_WITH_IMAGES
    if epochs and crossed.batch < 2:
        note = "The file fixes the batch at one image, so it is not fine-tuned. Export it with a dynamic batch."
        return 0, (note,)
    return epochs, ()


def with_batch_norm(crossed: Crossed, images: Images, head: Head) -> Crossed:
    """The same function with an identity BatchNorm behind every convolution that is trained, but the classifier."""
    graph = crossed.model.graph()
    trained = layers_behind(graph, head.logits) - set(head.classifier)
    convolutions = [node for node in graph.nodes if node.op == "Conv" and node.name in trained]
    if not convolutions:
        return crossed
    outputs = {node.name: node.outputs[0].name for node in convolutions}
    moments = output_moments(crossed.module, outputs, images, batch_size=min(crossed.batch, 16))
    run_passes((InsertBatchNorm(moments),), graph)
    return anew(crossed, crossed.model.with_graph(graph), head)


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


def _statistics(
    bank: Bank | None, task: Task, crossed: Crossed, images: Images, seed: int, checkpoint: Checkpoint
) -> Mapping[str, Tensor]:
    """The criterion's statistic for the task's classes, by weight name: from the bank, or by passes over the images."""
    device = next(crossed.module.parameters()).device
    if bank is None:
        kept = checkpoint.get("saliency")
        if kept is not None:
            return {name: statistic.to(device) for name, statistic in kept.tensors.items()}
        found = _collected(task, crossed, images, seed)
        checkpoint.put("saliency", copied(found))
        return found
    found = statistic_of(task.criterion, bank.of_classes(task.answers.wanted, task.weights))
    return {name: statistic.to(device) for name, statistic in found.items()}


def _collected(task: Task, crossed: Crossed, images: Images, seed: int) -> Mapping[str, Tensor]:
    """The criterion's statistic by weight name. Processes share the classes, and all get the sums of the first."""
    these, criterion, layers = crossed.module.processes, task.criterion, task.planner.candidates.free
    if these.count == 1 or not criterion.from_images or images.labels is None:
        found = collect(
            criterion, crossed.module, crossed.model, layers, images=images, task=task.answers,
            batch_size=crossed.batch, seed=seed,
        )  # fmt: skip
        these.spread(found)
        return found
    parts = {int(part.labels[0]): part for part in by_class(images) if part.labels is not None}
    shapes = {layer.weight: shape_of(criterion, layer) for layer in layers}

    def compute(index: int) -> Mapping[str, Tensor]:
        return sums_of(
            criterion, crossed.module, crossed.model, layers, parts[index], task.answers, batch_size=crossed.batch
        ).totals

    shared = these.shared(tuple(parts), shapes, compute)
    sums = [Sums({name: total.cpu() for name, total in totals.items()}, len(parts[index])) for index, totals in shared]
    whole = merged(sums) if sums else Sums({name: torch.zeros(shape) for name, shape in shapes.items()}, len(images))
    these.spread(whole.totals)
    device = next(crossed.module.parameters()).device
    return {name: statistic.to(device) for name, statistic in statistic_of(criterion, whole).items()}


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


def anew(crossed: Crossed, model: Model, head: Head) -> Crossed:
    """Cross over with another form of the model, which takes the same images."""
    module = prepared_for(next(crossed.module.parameters()).device, to_torch(model, head.logits))
    module.takes, module.processes = crossed.module.takes, crossed.module.processes
    return Crossed(model, module, crossed.batch)
