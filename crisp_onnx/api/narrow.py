"""Make a network narrower for the user's classes: which channels go, what is left re-fitted, the graph cut, proven."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_graphsurgeon as gs
import torch

from crisp_onnx.api.acceptance import Accepted
from crisp_onnx.api.agreement import agree
from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.column_fit import kept_indices
from crisp_onnx.api.crossing import Crossed, anew, cross, with_batch_norm
from crisp_onnx.api.device import find_device
from crisp_onnx.api.learn import Learned
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.prepare import Prepared, described
from crisp_onnx.api.question import Question
from crisp_onnx.api.ready import epochs_for
from crisp_onnx.api.sight import Sight, see
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.api.width_budget import require_speed
from crisp_onnx.api.width_cut import proven_cut, without
from crisp_onnx.api.width_search import FIND_WIDTHS, Found, Scene, way_of
from crisp_onnx.api.width_split import blocks_after
from crisp_onnx.api.widths import Widths, widths_of, with_stated_lengths
from crisp_onnx.bridge import GraphModule, write_back
from crisp_onnx.channels import Choice
from crisp_onnx.model import Model
from crisp_onnx.passes.collapse_blocks import Collapsed
from crisp_onnx.recipe import Recipe
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.recover import reestimate, train_narrow, training_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Narrowing:
    """`before`: the network as it was. `widths`: its groups, and why some lose nothing. `choice`: what went.

    `collapsed`: what became of chains that have lost all their channels.

    `shapes`: of the narrower one's weights, by node; see `stored_shapes`. `macs_left`: share of the MACs that it has.
    `worst_relative`: what the cut changes of the answers that the network gives with zeros in place, over the largest.
    """

    before: Prepared
    widths: Widths
    choice: Choice
    collapsed: tuple[Collapsed, ...]
    fits: tuple[LayerFit, ...]
    worst_relative: float
    epochs: int
    macs_left: float
    shapes: Mapping[str, tuple[int, ...]]


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
    prepared = asked.prepared
    crossed, sight = _seen(recipe, asked, folder, checkpoint, watch)
    every, told = epochs_for(recipe, crossed, asked.images)
    epochs = every if recipe.method == "channels" else every // 2
    widths = widths_of(recipe, prepared, crossed.model)
    teacher = copy.deepcopy(crossed.module)
    found = FIND_WIDTHS[way_of(recipe, epochs)](
        Scene(recipe, asked, crossed, teacher, widths, sight, epochs, folder, checkpoint, watch)
    )
    crossed, told = found.crossed, (*told, *found.notes)
    own = write_back(copy.deepcopy(crossed.module).cpu(), crossed.model)
    whole = without(own, found.choice.dead, widths, found.constants)
    done, worst = proven_cut(whole, found.choice, widths, prepared.size)
    trained = done.model
    narrower = anew(crossed, trained, prepared.head)
    if epochs > found.epochs:
        with watch("recovery"):
            told += _recovered(recipe, asked, found, narrower, teacher, sight, widths, epochs, checkpoint)
    elif not found.fits and crossed.batch > 1:
        reestimate(narrower.module, sight.images, batch_size=crossed.batch)
    trained = write_back(narrower.module.cpu(), trained)
    accepted = _accepted(prepared, trained, narrower.module)
    left = accepted.prepared.macs / max(1, prepared.macs)
    shapes = stored_shapes(accepted.prepared)
    narrowing = Narrowing(prepared, widths, found.choice, done.collapsed, found.fits, worst, epochs, left, shapes)
    planner, planned = blocks_after(recipe, prepared, accepted.prepared)
    images = sight.images if asked.images is None else asked.images
    asked = replace(asked, accepted=accepted, images=images, planner=planner, rehearsed=planned)
    learned = Learned(trained, asked.rehearsed, sight.images, sight.held_out, epochs, (*sight.notes, *told), found.fits)
    return Narrowed(asked, learned, narrowing, every - epochs)


def _seen(
    recipe: Recipe, asked: Question, folder: Path, checkpoint: Checkpoint, watch: Stopwatch
) -> tuple[Crossed, Sight]:
    """The network in torch, with lengths stated and statistics to train with, and the images that it is shown."""
    prepared = asked.prepared
    with watch("bridge"):
        crossed = cross(asked.accepted, find_device(recipe.device))
    if asked.images is None:  # which are made for minutes
        with watch("channels"):
            require_speed(recipe, asked, folder, checkpoint)
    with watch("images"):
        sight = see(recipe, prepared, crossed, asked.answers, asked.form, asked.images, checkpoint)
    stated = with_stated_lengths(crossed.model, prepared.size)
    if stated is not crossed.model:
        crossed = anew(crossed, stated, prepared.head)
    if not crossed.module.statistics:
        with watch("statistics"):
            crossed = with_batch_norm(crossed, sight.images, prepared.head)
    return crossed, sight


def _recovered(
    recipe: Recipe, asked: Question, found: Found, narrower: Crossed, teacher: GraphModule, sight: Sight,
    widths: Widths, epochs: int, checkpoint: Checkpoint,
) -> tuple[str, ...]:  # fmt: skip
    """Train the narrower network for the epochs that its widths have left; what the user should know of it."""
    task = make_task(recipe, asked.planner, asked.answers)
    training, told = training_for(
        narrower.module, sight.images, sight.held_out or sight.images, task, epochs - found.epochs,
        batch_size=found.crossed.batch, seed=recipe.seed, patience=recipe.patience,
    )  # fmt: skip
    agree(narrower.module, checkpoint, "weights before the narrow training")
    picks = kept_indices(found.choice.removals, widths.shapes)
    return (*told, *train_narrow(narrower.module, teacher, sight.images, task, training, picks, checkpoint))


def stored_shapes(prepared: Prepared) -> dict[str, tuple[int, ...]]:
    """The shape of the weights of each layer, and of each transposed convolution, by the name of the node."""
    found: dict[str, tuple[int, ...]] = {
        layer.name: layer.shape if layer.op == "Conv" or layer.shape[2:] != (1, 1) else layer.shape[:2]
        for layer in prepared.layers
    }
    for node in prepared.model.graph().nodes:
        if node.op == "ConvTranspose" and isinstance(node.inputs[1], gs.Constant):
            found[node.name] = tuple(node.inputs[1].shape)
    return found


def _accepted(before: Prepared, model: Model, module: GraphModule) -> Accepted:
    simplified = replace(before.simplified, model=model)
    return Accepted(described(before.source, simplified, before.size, before.asked, before.task), module)
