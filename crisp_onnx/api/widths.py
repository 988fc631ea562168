"""Which channels of a model may go, and what the recipe lets the rest cost: known before anything long is started."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.trials import TOLERANCE, try_out, worst_difference
from crisp_onnx.api.width_time import cost_of_widths, limit_of_widths
from crisp_onnx.channels import Extent, WidthCost
from crisp_onnx.errors import CrispError
from crisp_onnx.format import parse_pattern
from crisp_onnx.groups import ChannelGroup, channel_groups
from crisp_onnx.masks import Planner, Threshold, left_dense
from crisp_onnx.model import Model, Size, tensor_shapes, with_value_info
from crisp_onnx.model.shapes import facts, inform
from crisp_onnx.passes import FoldConstants, FoldLengths, collapsible, run_pass
from crisp_onnx.passes.insert_gates import edges
from crisp_onnx.recipe import GATES, Recipe

DEFAULT_MACS = 0.5
LARGEST_SHARE = 0.999
ROUNDS = 64
"""Where every block asks for the shape that the one before it gave, a round tells that of one more block."""
NM_ALONE = 0.99
"""Of what N:M leaves by its density: groups that are cut off at a border keep a little less."""
CRITERIA = ("crisp", "magnitude", "random")
log = logging.getLogger(__name__)
UNREAD = "no layer that leads to the answers sums over them, image by image, so nothing says what they are worth"
ASKED = "a layer that writes or reads them keeps its channels, as asked (--keep-dense)"
SINGLE = "there is one alone"


@dataclass(frozen=True, eq=False)
class Widths:
    """`groups`: all of `model`'s, whose images are of `size`. `free`: the numbers of those that may lose channels.

    `kept`: why each other may not.
    `dying`: the numbers of those that may lose all, as their blocks then collapse. `edges`: the tensors, and the axes
    of them, in which the channels are read. `cost`: of widths, of which `share` of the whole network's may be left.
    """

    model: Model
    size: Size
    groups: tuple[ChannelGroup, ...]
    free: tuple[int, ...]
    dying: frozenset[int]
    kept: Mapping[int, str]
    edges: tuple[tuple[str, int], ...]
    cost: WidthCost
    shapes: Mapping[str, tuple[int, ...]]
    share: float

    @property
    def whole(self) -> float:
        """What the whole network costs."""
        return self.cost.at(np.zeros(len(self.groups)))


def with_stated_lengths(model: Model, size: Size) -> Model:
    """The model with its lengths in numbers where they are the same for every input; as it is if the answers differ."""
    plain = model
    for _ in range(ROUNDS):
        before = plain
        graph = None
        for item in (FoldLengths(), FoldConstants()):
            if graph is None:
                graph = plain.graph()
                inform(graph, facts(plain))
            if run_pass(item, graph).changed:
                plain, graph = plain.with_graph(graph), None
        if plain is before:
            break
    if plain is model:
        return model
    plain = with_value_info(plain)
    if worst_difference(plain, try_out(model, size).every) > TOLERANCE:
        log.debug("lengths in numbers change the answers of %s", model.path.name)
        return model
    return plain


def widths_of(recipe: Recipe, prepared: Prepared, model: Model | None = None) -> Widths:
    """What can be made narrower of `model`, the prepared one by default.

    Raises:
        CrispError: nothing can, or the budget cannot be met.
    """
    model = model or with_stated_lengths(prepared.model, prepared.size)
    graph = model.graph()
    shapes = prepared.shapes if model is prepared.model else tensor_shapes(model, size=prepared.size)
    groups, kept = groups_of(prepared, graph, shapes, recipe.keep_dense)
    free = tuple(number for number in range(len(groups)) if number not in kept)
    places = tuple(edges(graph, [groups[number] for number in free], shapes))
    extent = Extent(model.graph(), groups, shapes)
    may_die = collapsible(model.graph(), [groups[number] for number in free], shapes)
    dying = frozenset(free[place] for place in may_die)
    limit = limit_of_widths(recipe)
    cost = extent.macs if limit is None else cost_of_widths(recipe, limit, model, extent, prepared.size)
    return Widths(model, prepared.size, groups, free, dying, kept, places, cost, shapes, share_for_widths(recipe))


def groups_of(
    prepared: Prepared, graph: gs.Graph, shapes: Mapping[str, tuple[int, ...]], keep_dense: Sequence[str] = ()
) -> tuple[tuple[ChannelGroup, ...], dict[int, str]]:
    """Every group, and by number why it may not lose channels; `graph` is left with what leads to the answers alone.

    Raises:
        CrispError: no group may.
    """
    groups = channel_groups(graph, prepared.layers, shapes)
    asked = left_dense(keep_dense, prepared.layers)
    tensors = graph.tensors()
    graph.outputs = [tensors[name] for name in prepared.head.trained]
    graph.cleanup(remove_unused_graph_inputs=False)
    kept = {}
    for number, group in enumerate(groups):
        reason = next(map(str, (*group.barriers, *group.keeps)), "") or (SINGLE if group.width < 2 else "")
        if not reason and asked.keys() & {*group.producers, *group.consumers}:
            reason = ASKED
        if not reason and not edges(graph, (group,), shapes):
            reason = UNREAD
        if reason:
            kept[number] = reason
    if len(kept) == len(groups):
        reasons = "; ".join(sorted(set(kept.values()))) or "it has no weight layer"
        raise CrispError(
            f"No channel of {prepared.source.path.name} can be removed: {reasons}. `crisp-onnx check --groups` shows "
            "every group."
        )
    return groups, kept


def recipe_for_blocks(recipe: Recipe, narrowed: float | None = None) -> Recipe:
    """The recipe of the zeros that follow on channels: its MACs are a share of those of the narrower model.

    `narrowed`: the share of the MACs that channels have left; before that is known, what they are to leave.
    """
    if not recipe.narrows or recipe.macs is None:
        return recipe
    left = share_for_widths(recipe) if narrowed is None else narrowed
    return recipe.model_copy(update={"macs": min(recipe.macs / left, LARGEST_SHARE)})


def share_for_widths(recipe: Recipe) -> float:
    """The MACs that are left once channels are gone, over those of the whole model.

    Where blocks follow and MACs are what is asked for, both take the same share, the square root of the whole; but
    blocks leave no more than N:M does.
    """
    if recipe.macs is None:
        return DEFAULT_MACS
    if recipe.method == "channels":
        return recipe.macs
    density = parse_pattern(recipe.pattern, block=recipe.block, vector_rows=recipe.vector_rows).density
    return min(1.0, recipe.macs / min(sqrt(recipe.macs), density))


def within_pattern(planner: Planner, macs: int) -> Planner:
    """The planner, asked for no more MACs than its pattern leaves of the `macs` of the model.

    Widths are coarse: they may leave so few MACs that N:M alone meets the whole budget.
    """
    if not isinstance(planner, Threshold) or planner.of != "macs":
        return planner
    free = sum(layer.macs for layer in planner.candidates.free)
    most = 1 - free * (1 - planner.candidates.pattern.density) / max(1, macs)
    return replace(planner, kept=min(planner.kept, NM_ALONE * most))


def refuse_what_channels_do_not_know(recipe: Recipe, *, given: bool) -> None:
    """Options that say nothing to the removal of channels. `given`: whether there are images to learn from.

    Raises:
        CrispError: one of them is given.
    """
    if recipe.narrows and recipe.saliency not in CRITERIA:
        raise CrispError(f"--method {recipe.method} ranks channels by {' or '.join(CRITERIA)}, not {recipe.saliency}.")
    if recipe.widths is not None and not recipe.narrows:
        raise CrispError("--widths says how channels are found, and --method hybrid removes none. Leave it out.")
    least = 2 if recipe.method == "channels" else 4
    if recipe.widths == GATES and (recipe.epochs if recipe.epochs is not None else least * given) < least:
        raise CrispError(
            f"--widths gates finds channels while the network trains, for which it needs {least} epochs. Give images "
            "with --data and --epochs, or use --widths saliency."
        )
    if recipe.narrows and recipe.bank is not None:
        raise CrispError(
            f"--method {recipe.method} asks the images what channels are worth, and a bank knows of the weights before "
            "any has gone. Leave out --bank, or use --method hybrid."
        )
    if recipe.method != "channels":
        return
    if recipe.sparsity is not None:
        raise CrispError(
            "--sparsity is no budget of --method channels: it puts no zeros anywhere. Say with --macs what share of "
            "the MACs is to be left, or give --latency-ms, --energy-mj or --speedup."
        )
    for option, said in (("--recovery", recipe.recovery != "fixed"), ("--first-finetune", recipe.first_finetune > 0)):
        if said:
            raise CrispError(
                f"{option} is of no use to --method channels, which has no masks and packs nothing. Leave it out, or "
                "let zeros follow with --method channels+hybrid."
            )
