"""Cut a network to the widths that were chosen: dead chains collapse, other channels are sliced, both are proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crisp_onnx.api.column_fit import Constants
from crisp_onnx.api.trials import difference
from crisp_onnx.api.widths import Widths
from crisp_onnx.channels import Choice
from crisp_onnx.errors import Defect
from crisp_onnx.groups import ChannelGroup
from crisp_onnx.model import Model, Size
from crisp_onnx.model.answers import open_model, seeded_image
from crisp_onnx.passes import CollapseBlocks, FoldGates, MaskChannels, SliceChannels, run_pass
from crisp_onnx.passes.collapse_blocks import Collapsed, with_bias
from crisp_onnx.passes.insert_gates import gated_columns

BIASED = ("Conv", "ConvTranspose")
TOLERANCE = 1e-5
IMAGES = 4


@dataclass(frozen=True)
class Cut:
    """`model`: the narrower network. `collapsed`: what became of chains that have lost all their channels."""

    model: Model
    collapsed: tuple[Collapsed, ...]


def readers_of(model: Model, groups: Sequence[ChannelGroup], widths: Widths) -> tuple[str, ...]:
    """The tensors that convolutions write which sum over channels of the groups."""
    graph = model.graph()
    weights = gated_columns(graph, groups, widths.shapes).keys() if groups else ()
    return tuple(node.outputs[0].name for node in graph.nodes
                 if node.op in BIASED and node.inputs[1].name in weights)  # fmt: skip


def without(
    model: Model,
    dead: Sequence[ChannelGroup],
    widths: Widths,
    means: Constants,
) -> Model:
    """The model with zeros in all columns that read the `dead` groups.

    `means`: of what each convolution that reads them has given, which its bias gives in the place of it.
    """
    if not dead:
        return model
    graph = model.graph()
    FoldGates(dead, widths.shapes, np.zeros(sum(group.width for group in dead))).run(graph)
    for node in graph.nodes:
        if node.op in BIASED and node.outputs[0].name in means:
            with_bias(graph, node, means[node.outputs[0].name])
    return model.with_graph(graph)


def cut(model: Model, choice: Choice, widths: Widths) -> Cut:
    """Cut `model`, in which what reads dead groups is zero already.

    Raises:
        Defect: a chain without channels does not collapse.
    """
    graph, collapse = model.graph(), CollapseBlocks(widths.shapes)
    if choice.dead:
        declined = run_pass(collapse, graph).declined
        names = {name for group in choice.dead for name in group.consumers}
        odd = next((place for place in declined if place.node in names), None)
        if odd is not None:
            raise Defect(f"The chain before {odd.node!r} has no channels and cannot go: {odd.reason}.")
    run_pass(SliceChannels(choice.removals, widths.shapes), graph)
    return Cut(model.with_graph(graph), collapse.collapsed)


def proven_cut(model: Model, choice: Choice, widths: Widths, size: Size) -> tuple[Cut, float]:
    """The cut model, and how far its answers are from those that it gives with zeros in place.

    Raises:
        Defect: they are too far apart.
    """
    found, graph = cut(model, choice, widths), model.graph()
    run_pass(MaskChannels(choice.removals, widths.shapes), graph)
    batch = model.input.shape[0] if model.input.shape else None
    inputs = {model.input.name: seeded_image(model.input, batch or IMAGES, size)}
    one, other = (open_model(form).run(inputs) for form in (found.model, model.with_graph(graph)))
    worst = difference(one, other)
    if worst > TOLERANCE:
        raise Defect(
            f"Without the channels {model.path.name} answers otherwise than with zeros in place: by {worst:.1e} "
            "(relative). Please report it with the model; --method hybrid removes no channels."
        )
    return found, worst
