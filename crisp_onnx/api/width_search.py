"""The table of ways to find widths: what each group loses, and the weights that go with the channels that are left."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.api.agreement import agree
from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.column_fit import Constants, refit_columns
from crisp_onnx.api.crossing import Crossed, anew
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.question import Question
from crisp_onnx.api.sight import Sight
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.api.width_budget import share_of_cost
from crisp_onnx.api.width_cut import readers_of
from crisp_onnx.api.width_estimate import chosen_within, stocks_of
from crisp_onnx.api.width_time import limit_of_widths
from crisp_onnx.api.widths import Widths
from crisp_onnx.bridge import GraphModule, to_torch, write_back
from crisp_onnx.channels import Choice, Gates, by_group, channel_means, channel_worth, first_scores, weight_norms
from crisp_onnx.passes import FoldGates, InsertGates, run_passes
from crisp_onnx.passes.insert_gates import gated_columns
from crisp_onnx.recipe import GATES, SALIENCY, Recipe
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.recover import output_moments, search_gates, training_for

SEARCH_SHARE = 0.4
"""Of the epochs, in which gates find the widths; the others train the narrower network."""
SHUT = 0.5
"""Gates under it are shut; a group of which all are may die."""
MEAN_BATCH = 16


@dataclass(frozen=True, eq=False)
class Scene:
    """What widths are found from. `crossed`: the whole network, and `teacher` as it answers before anything changes it.

    `epochs`: that there are for widths and for training.
    """

    recipe: Recipe
    asked: Question
    crossed: Crossed
    teacher: GraphModule
    widths: Widths
    sight: Sight
    epochs: int
    folder: Path
    checkpoint: Checkpoint
    watch: Stopwatch


@dataclass(frozen=True, eq=False)
class Found:
    """`choice`: the channels that go. `crossed`: all of them, with weights for those that stay. `epochs`: spent.

    `constants`: what becomes of the tensors behind groups that lose all their channels.
    """

    choice: Choice
    crossed: Crossed
    constants: Constants
    fits: tuple[LayerFit, ...] = ()
    epochs: int = 0
    notes: tuple[str, ...] = ()


def by_saliency(scene: Scene) -> Found:
    """The least worth for their cost go, and least squares fits what they gave into the others."""
    recipe, crossed, widths = scene.recipe, scene.crossed, scene.widths
    with scene.watch("channels"):
        stocks = stocks_of(recipe, crossed.model, widths, _worth(scene), recipe.round_channels)
        share = share_of_cost(recipe, scene.asked, crossed.model, widths, stocks, scene.folder, scene.checkpoint)
        choice = chosen_within(widths, stocks, share)
    constants = _constants(scene, crossed, choice)
    if recipe.reconstruct == "none":
        return Found(choice, crossed, constants)
    with scene.watch("reconstruct"):
        fits = refit_columns(crossed, choice, constants, widths.shapes, scene.sight, recipe.seed)
        return Found(choice, crossed, constants, fits)


def by_gates(scene: Scene) -> Found:
    """Gates search while the weights train; then what the gates have left least of goes, and the rest is folded in."""
    recipe, crossed, widths, sight = scene.recipe, scene.crossed, scene.widths, scene.sight
    epochs = max(1, round(SEARCH_SHARE * scene.epochs))
    chosen = [widths.groups[number] for number in widths.free]
    with scene.watch("channels"):
        worth = _worth(scene)
        stocks = stocks_of(recipe, crossed.model, widths, worth, recipe.round_channels)
        share = share_of_cost(recipe, scene.asked, crossed.model, widths, stocks, scene.folder, scene.checkpoint)
        gates = _gates(scene, worth, share)
    with scene.watch("gates"):
        task = make_task(recipe, scene.asked.planner, scene.asked.answers)
        training, told = training_for(
            crossed.module, sight.images, sight.held_out or sight.images, task, epochs, batch_size=crossed.batch,
            seed=recipe.seed,
        )  # fmt: skip
        agree(crossed.module, scene.checkpoint, "weights before the search for widths")
        opened, more = search_gates(
            crossed.module, scene.teacher, sight.images, task, training, gates, widths.cost, share, scene.checkpoint
        )
    model = write_back(copy.deepcopy(crossed.module).cpu(), crossed.model)
    graph = model.graph()
    run_passes((FoldGates(chosen, widths.shapes, opened),), graph)
    folded = anew(crossed, model.with_graph(graph), scene.asked.prepared.head)
    with scene.watch("channels"):
        worth = _worth(replace(scene, crossed=folded))
        shut = by_group(opened, {number: widths.groups[number].width for number in widths.free})
        dying = frozenset(number for number in widths.dying if shut[number].max() < SHUT)
        stocks = stocks_of(recipe, folded.model, widths, worth, recipe.round_channels, least=0.0, dying=dying)
        together = recipe.method != "channels"
        if together or recipe.speedup is not None or limit_of_widths(recipe) is not None:
            share = share_of_cost(
                recipe, scene.asked, folded.model, widths, stocks, scene.folder, scene.checkpoint, part="gates"
            )
        choice = chosen_within(widths, stocks, share)
        return Found(choice, folded, _constants(scene, folded, choice), (), epochs, (*told, *more))


def _gates(scene: Scene, worth: Mapping[int, npt.NDArray[np.float64]], share: float) -> Gates:
    """A gate for each channel that may go, which starts from what the channel is worth."""
    widths = scene.widths
    chosen = [widths.groups[number] for number in widths.free]
    owners = np.repeat(widths.free, [group.width for group in chosen])
    choice = chosen_within(widths, stocks_of(scene.recipe, scene.crossed.model, widths, worth, 1), share)
    gone: dict[int, Sequence[int]] = {id(one.group): one.channels for one in choice.removals}
    gone |= {id(group): range(group.width) for group in choice.dead}
    going = [np.isin(np.arange(group.width), gone.get(id(group), ())) for group in chosen]
    slopes = widths.cost.slopes(np.zeros(len(widths.groups)))[owners]
    first = first_scores(np.concatenate([worth[number] for number in widths.free]), slopes, np.concatenate(going))
    columns = gated_columns(scene.crossed.model.graph(), chosen, widths.shapes)
    return Gates(owners, len(widths.groups), columns, first, frozenset(widths.free) - widths.dying)


FIND_WIDTHS: Mapping[str, Callable[[Scene], Found]] = MappingProxyType({SALIENCY: by_saliency, GATES: by_gates})


def _constants(scene: Scene, crossed: Crossed, choice: Choice) -> Constants:
    """The means of what convolutions that read dead groups give in the whole network, by the tensor that they write."""
    outputs = readers_of(crossed.model, choice.dead, scene.widths)
    if not outputs:
        return {}
    moments = output_moments(
        scene.teacher, {name: name for name in outputs}, scene.sight.images, batch_size=min(crossed.batch, MEAN_BATCH)
    )
    return {name: mean for name, (mean, _) in moments.items()}


def _worth(scene: Scene) -> dict[int, npt.NDArray[np.float64]]:
    """Of each channel of the groups that may lose some, by the number of the group."""
    recipe, crossed, widths, images = scene.recipe, scene.crossed, scene.widths, scene.sight.images
    chosen = [widths.groups[number] for number in widths.free]
    spans = {number: widths.groups[number].width for number in widths.free}
    if recipe.saliency == "random":
        return by_group(np.random.default_rng(recipe.seed).random(sum(spans.values())), spans)
    graph = crossed.model.graph()
    if recipe.saliency == "magnitude":
        stored = {name: tensor.values for name, tensor in graph.tensors().items() if isinstance(tensor, gs.Constant)}
        return dict(zip(widths.free, weight_norms(chosen, stored), strict=True))
    means = channel_means(crossed.module, widths.edges, images, batch_size=crossed.batch, seed=recipe.seed)
    gates = InsertGates(chosen, widths.shapes, means)
    run_passes((gates,), graph)
    gated = to_torch(crossed.model.with_graph(graph), scene.asked.answers.trained)
    gated.takes = crossed.module.takes
    gated = gated.to(next(crossed.module.parameters()).device)
    count = sum(spans.values()) + 1
    answers = scene.asked.answers
    flat = channel_worth(gated, gates.gates, count, images, answers, batch_size=crossed.batch, seed=recipe.seed)
    return by_group(flat, spans)


def way_of(recipe: Recipe, epochs: int) -> str:
    """How the recipe finds widths, with so many epochs to train in: gates need one for themselves and one after."""
    return recipe.widths or SALIENCY if epochs > 1 else SALIENCY
