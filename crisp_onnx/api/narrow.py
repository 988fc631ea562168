"""Make a network narrower for the user's classes: which channels go, what is left re-fitted, the graph cut, proven."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from crisp_onnx.api.acceptance import Accepted
from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.crossing import Crossed, anew, cross, with_batch_norm
from crisp_onnx.api.device import find_device
from crisp_onnx.api.gains import written_form
from crisp_onnx.api.learn import Learned, agree, epochs_for
from crisp_onnx.api.planning import make_planner, make_task, rehearse
from crisp_onnx.api.prepare import Prepared, described
from crisp_onnx.api.question import Question
from crisp_onnx.api.sight import Sight, parted, see
from crisp_onnx.api.speedup import LEAD, measured, share_for
from crisp_onnx.api.speedup import TOLERANCE as TOLERANCE_OF_SPEED
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.api.trials import difference
from crisp_onnx.api.widths import Widths, recipe_for_blocks, widths_of, with_stated_lengths, within_pattern
from crisp_onnx.bridge import GraphModule, to_torch, write_back
from crisp_onnx.channels import (
    Choice,
    Stock,
    by_group,
    channel_means,
    channel_worth,
    choose,
    least_cost,
    stock,
    weight_norms,
)
from crisp_onnx.errors import Defect
from crisp_onnx.groups import Removal, removed_indices
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, Size, WeightLayer, weight_layers
from crisp_onnx.model.answers import open_model, seeded_image
from crisp_onnx.passes import InsertGates, MaskChannels, Pass, SliceChannels, run_passes
from crisp_onnx.recipe import Recipe
from crisp_onnx.reconstruct import LayerFit, refit_layers
from crisp_onnx.recover import State, reestimate, train_narrow, training_for

log = logging.getLogger(__name__)
TOLERANCE = 1e-5
IMAGES = 4


@dataclass(frozen=True)
class Narrowing:
    """`before`: the network as it was. `widths`: its groups, and why some lose nothing. `removals`: what went.

    `layers`: those of the narrower one. `macs_left`: share of the MACs that it has.
    `worst_relative`: what the cut changes of the answers that the network gives with zeros in place, over the largest.
    """

    before: Prepared
    widths: Widths
    removals: tuple[Removal, ...]
    fits: tuple[LayerFit, ...]
    worst_relative: float
    epochs: int
    macs_left: float
    layers: tuple[WeightLayer, ...]


@dataclass(frozen=True)
class Narrowed:
    """`asked`: the same question of the narrower network. `learned`: what has been learnt so far.

    `epochs_left`: for training under masks.
    """

    asked: Question
    learned: Learned
    narrowing: Narrowing
    epochs_left: int


def narrow(recipe: Recipe, asked: Question, *, folder: Path, checkpoint: Checkpoint, watch: Stopwatch) -> Narrowed:
    """Remove the channels that the user's classes need least until the recipe's budget for widths is met.

    `folder`: for models that are timed.

    Raises:
        CrispError: the budget cannot be met, no such device, or no images can be made.
        Defect: the narrower network does not answer as it should.
    """
    torch.manual_seed(recipe.seed)
    prepared, answers = asked.prepared, asked.answers
    with watch("bridge"):
        crossed = cross(asked.accepted, find_device(recipe.device))
    with watch("images"):
        sight = see(recipe, prepared, crossed, answers, asked.form, asked.images, checkpoint)
    every, told = epochs_for(recipe, crossed, asked.images)
    epochs = every if recipe.method == "channels" else every // 2
    stated = with_stated_lengths(crossed.model, prepared.size)
    if stated is not crossed.model:
        crossed = anew(crossed, stated, prepared.head)
    if not crossed.module.statistics:
        with watch("statistics"):
            crossed = with_batch_norm(crossed, sight.images, prepared.head)
    with watch("channels"):
        widths = widths_of(recipe, prepared, crossed.model)
        worth = _worth(recipe, asked, crossed, widths, sight)
        stocks = stock(widths.groups, worth, recipe.round_channels)
        budget = _budget(recipe, asked, crossed.model, widths, stocks, folder, checkpoint)
        choice = _chosen(widths, stocks, budget)
    fits: tuple[LayerFit, ...] = ()
    teacher = copy.deepcopy(crossed.module)
    if recipe.reconstruct != "none":
        with watch("reconstruct"):
            fits = _refit(crossed, choice.removals, sight, recipe.seed)
    trained, worst = _cut(write_back(crossed.module.cpu(), crossed.model), choice.removals, widths, prepared.size)
    narrower = anew(crossed, trained, prepared.head)
    if epochs:
        with watch("recovery"):
            task = make_task(recipe, asked.planner, answers)
            training, more = training_for(
                narrower.module, sight.images, sight.held_out or sight.images, task, epochs,
                batch_size=crossed.batch, seed=recipe.seed, patience=recipe.patience,
            )  # fmt: skip
            agree(narrower.module, checkpoint, "weights before the narrow training")
            picks = kept_indices(choice.removals, widths.shapes)
            told += (*more, *train_narrow(narrower.module, teacher, sight.images, task, training, picks, checkpoint))
    elif not fits and crossed.batch > 1:
        reestimate(narrower.module, sight.images, batch_size=crossed.batch)
    trained = write_back(narrower.module.cpu(), trained)
    accepted = _accepted(prepared, trained, narrower.module)
    left = accepted.prepared.macs / max(1, prepared.macs)
    narrowing = Narrowing(prepared, widths, choice.removals, fits, worst, epochs, left, accepted.prepared.layers)
    planner = within_pattern(make_planner(recipe_for_blocks(recipe, left), accepted.prepared), accepted.prepared.macs)
    images = sight.images if asked.images is None else asked.images
    asked = replace(asked, accepted=accepted, images=images, planner=planner, rehearsed=rehearse(planner))
    learned = Learned(trained, asked.rehearsed, sight.images, sight.held_out, epochs, (*sight.notes, *told), fits)
    return Narrowed(asked, learned, narrowing, every - epochs)


def _chosen(widths: Widths, stocks: Sequence[Stock], budget: float) -> Choice:
    return choose(stocks, widths.extent.macs, widths.extent.macs_gained, budget + 0.5, len(widths.groups))


def _budget(
    recipe: Recipe,
    asked: Question,
    model: Model,
    widths: Widths,
    stocks: Sequence[Stock],
    folder: Path,
    checkpoint: Checkpoint,
) -> float:
    """MACs that widths may leave: as asked, or so few that the narrower network is as fast as asked.

    Where zeros follow on channels, both are to be equally fast: channels take the square root of the speed.
    """
    if recipe.speedup is None:
        return widths.budget
    kept = checkpoint.get("speedup of widths")
    if kept is not None:
        return float(kept.values["budget"])
    speed = recipe.speedup if recipe.method == "channels" else sqrt(recipe.speedup)
    full = widths.extent.macs(np.zeros(len(widths.groups)))

    def gain(share: float) -> float:
        choice = _chosen(widths, stocks, share * full)
        narrow = _passed(model, SliceChannels(choice.removals, widths.shapes))
        return measured(recipe, asked, written_form(recipe, narrow, Plan(), size=asked.prepared.size), folder)

    least = least_cost(stocks, widths.extent.macs, len(widths.groups)) / full
    found = share_for(LEAD * speed, gain, least, 1.0, name="--speedup", tolerance=TOLERANCE_OF_SPEED) * full
    checkpoint.put("speedup of widths", State({}, {"budget": found}))
    return found


def _accepted(before: Prepared, model: Model, module: GraphModule) -> Accepted:
    simplified = replace(before.simplified, model=model)
    return Accepted(described(before.source, simplified, before.size, before.output, before.task), module)


def _worth(
    recipe: Recipe, asked: Question, crossed: Crossed, widths: Widths, sight: Sight
) -> dict[int, npt.NDArray[np.float64]]:
    """Of each channel of the groups that may lose some, by the number of the group."""
    chosen = [widths.groups[number] for number in widths.free]
    spans = {number: widths.groups[number].width for number in widths.free}
    if recipe.saliency == "random":
        return by_group(np.random.default_rng(recipe.seed).random(sum(spans.values())), spans)
    if recipe.saliency == "magnitude":
        tensors = crossed.model.graph().tensors()
        return dict(zip(widths.free, weight_norms(chosen, {n: t.values for n, t in tensors.items()
                                                           if isinstance(t, gs.Constant)}), strict=True))  # fmt: skip
    means = channel_means(crossed.module, widths.edges, sight.images, batch_size=crossed.batch, seed=recipe.seed)
    gates = InsertGates(chosen, widths.shapes, means)
    graph = crossed.model.graph()
    run_passes((gates,), graph)
    gated = to_torch(crossed.model.with_graph(graph), asked.answers.logits)
    gated.takes = crossed.module.takes
    gated = gated.to(next(crossed.module.parameters()).device)
    count = sum(group.width for group in chosen) + 1
    flat = channel_worth(
        gated, gates.gates, count, sight.images, asked.answers, batch_size=crossed.batch, seed=recipe.seed
    )
    return by_group(flat, spans)


def _refit(crossed: Crossed, removals: Sequence[Removal], sight: Sight, seed: int) -> tuple[LayerFit, ...]:
    """What the removed channels gave is fitted into the others, layer by layer, as far as it can be."""
    layers = weight_layers(crossed.model)
    masks = column_masks(crossed.module, layers, removals)
    crossed.module.set_masks(masks)
    alike = {layer.name: layer.shape[0] for layer in layers if layer.weight in masks}
    images, judged = sight.images, sight.held_out
    if judged is None:
        images, judged = parted(images, seed)
    fits = refit_layers(crossed.module, layers, alike, images, judged, batch_size=crossed.batch, seed=seed)
    crossed.module.clear_masks()
    return fits


def column_masks(module: GraphModule, layers: Sequence[WeightLayer], removals: Sequence[Removal]) -> dict[str, Tensor]:
    """Masks that shut the columns of the removed channels, of the weights that read them and may be re-fitted."""
    parameters, by_weight = dict(module.named_parameters()), {layer.weight: layer for layer in layers}
    masks: dict[str, Tensor] = {}
    for (name, axis), indices in removed_indices(removals).items():
        layer = by_weight.get(name)
        if layer is None or layer.groups > 1 or layer.obstacle or axis != (0 if layer.transposed else 1):
            continue
        mask = torch.ones(parameters[name].shape, dtype=torch.bool)
        masks[name] = mask.index_fill(axis, torch.from_numpy(indices), False)
    return masks


def kept_indices(
    removals: Sequence[Removal], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[tuple[int, Tensor], ...]]:
    """By tensor: the axes that lose indices, and those that they keep."""
    found: dict[str, list[tuple[int, Tensor]]] = {}
    for (name, axis), indices in removed_indices(removals).items():
        kept = np.delete(np.arange(shapes[name][axis]), indices)
        found.setdefault(name, []).append((axis, torch.from_numpy(kept)))
    return {name: tuple(axes) for name, axes in found.items()}


def _cut(model: Model, removals: Sequence[Removal], widths: Widths, size: Size) -> tuple[Model, float]:
    """The model without the channels, and how far its answers are from those that it gives with zeros in place.

    Raises:
        Defect: they are too far apart.
    """
    narrow, masked = (_passed(model, item) for item in
                      (SliceChannels(removals, widths.shapes), MaskChannels(removals, widths.shapes)))  # fmt: skip
    batch = model.input.shape[0] if model.input.shape else None
    inputs = {model.input.name: seeded_image(model.input, batch or IMAGES, size)}
    one, other = (open_model(form).run(inputs) for form in (narrow, masked))
    worst = difference(one, other)
    if worst > TOLERANCE:
        raise Defect(
            f"Without the channels {model.path.name} answers otherwise than with zeros in place: by {worst:.1e} "
            "(relative). Please report it with the model; --method hybrid removes no channels."
        )
    return narrow, worst


def _passed(model: Model, item: Pass) -> Model:
    graph = model.graph()
    run_passes((item,), graph)
    return model.with_graph(graph)
