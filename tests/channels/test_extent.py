"""MACs and bytes as they follow from widths are those that are counted once the channels are gone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import networks

from crisp_onnx.channels import Extent
from crisp_onnx.groups import Removal, channel_groups
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.model.macs import constant_nodes, macs_of
from crisp_onnx.passes import CollapseBlocks, FoldGates, SliceChannels, collapsible, run_pass


def counted_macs(model: Model) -> int:
    graph, shapes = model.graph(), tensor_shapes(model)
    still = constant_nodes(graph)
    return sum(macs_of(node, shapes) or 0 for node in graph.nodes if node.name not in still)


def stored_bytes(model: Model) -> int:
    """Of all tensors that could hold channels."""
    return sum(len(t.raw_data) for t in model.proto.graph.initializer if t.data_type == 1 and t.dims)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=40)
def test_macs_and_bytes_of_any_widths_are_those_of_the_sliced_graph(model: Model, seed: int) -> None:
    shapes, rng = tensor_shapes(model), np.random.default_rng(seed)
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    extent = Extent(model.graph(), groups, shapes)
    removed = np.array([rng.integers(0, group.width) if group.removable else 0 for group in groups], int)
    graph = model.graph()
    removals = [Removal(g, tuple(range(n))) for g, n in zip(groups, removed, strict=True) if n]
    run_pass(SliceChannels(removals, shapes), graph)
    narrow = model.with_graph(graph)
    nothing = np.zeros(len(groups))
    assert round(extent.macs.at(nothing)) == counted_macs(model)
    assert round(extent.macs.at(removed)) == counted_macs(narrow)
    assert round(extent.bytes.at(nothing) - extent.bytes.at(removed)) == stored_bytes(model) - stored_bytes(narrow)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=60)
def test_what_leads_to_a_dead_group_alone_costs_nothing_as_in_the_collapsed_graph(model: Model, seed: int) -> None:
    shapes, rng = tensor_shapes(model), np.random.default_rng(seed)
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    free = [place for place, group in enumerate(groups) if group.removable and group.width > 1]
    dying = [free[place] for place in collapsible(model.graph(), [groups[number] for number in free], shapes)]
    dead = [number for number in dying if rng.random() < 0.5]
    removed = np.array([rng.integers(0, g.width) if g.removable else 0 for g in groups], int)
    removed[dead] = [groups[number].width for number in dead]
    graph = model.graph()
    chosen = [groups[number] for number in dead]
    if dead:
        run_pass(FoldGates(chosen, shapes, np.zeros(sum(group.width for group in chosen))), graph)
        run_pass(CollapseBlocks(shapes), graph)
    removals = [Removal(g, tuple(range(n))) for g, n in zip(groups, removed, strict=True) if 0 < n < g.width]
    run_pass(SliceChannels(removals, shapes), graph)
    cost = Extent(model.graph(), groups, shapes).macs
    assert round(cost.at(removed)) == counted_macs(model.with_graph(graph))
    back = -(removed > 0).astype(int)
    for number, gained in enumerate(cost.gained(removed, back)):
        assert gained == pytest.approx(cost.at(removed) - cost.at(removed + back * (np.arange(len(groups)) == number)))


def test_the_first_layer_of_a_bottleneck_goes_with_its_last_group(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,4,2,2] x) => (float[N,6,2,2] y)"
        "<float[8,4,1,1] p, float[5,8,1,1] a, float[7,5,3,3] b, float[8,7,1,1] c, float[6,8,1,1] f>"
        "{ s = Conv(x, p) i = Conv(s, a) j = Relu(i) k = Conv<pads = [1,1,1,1]>(j, b) l = Conv(k, c) z = Add(s, l)"
        " y = Conv(z, f) }"
    )
    shapes = tensor_shapes(model)
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    extent = Extent(model.graph(), groups, shapes)
    removed = np.array([7 * (group.width == 7) for group in groups])
    assert extent.macs.at(removed) == 4 * (8 * 4 + 6 * 8)
    assert extent.bytes.at(removed) == 4 * (8 * 4 + 6 * 8)
    first = next(place for place, group in enumerate(groups) if group.width == 5)
    assert extent.macs.gained(removed, np.ones(len(groups), int))[first] == 0
    named = extent.weighed({node.name: 1.0 for node in model.graph().nodes}, rest=2.0)
    assert named.at(removed) == 2 + 3  # of the stem, the sum and the last layer


def test_what_one_more_channel_gains_depends_on_what_is_left_of_its_neighbours(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,6,4,4] y) <float[8,3,1,1] a, float[4,8,1,1] b, float[6,4,1,1] c>"
        "{ h = Conv(x, a) i = Conv(h, b) y = Conv(i, c) }"
    )
    shapes = tensor_shapes(model)
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    extent = Extent(model.graph(), groups, shapes)
    first = next(place for place, group in enumerate(groups) if group.width == 8)
    second = next(place for place, group in enumerate(groups) if group.width == 4)
    removed = np.zeros(len(groups), int)
    step = np.ones(len(groups), int)
    assert extent.macs.gained(removed, step)[first] == pytest.approx(16 * (3 + 4))
    removed[second] = 2
    assert extent.macs.gained(removed, step)[first] == pytest.approx(16 * (3 + 2))
    assert extent.bytes.gained(removed, step)[second] == pytest.approx(4 * (8 + 6))


def test_a_graph_without_groups_has_all_of_its_macs(model_of: Callable[[str], Model]) -> None:
    model = model_of("""(float[1,2,16] x) => (float[1,1,2,8] y) <float[1,32,16] w, float[1,32,8] r> {
      y = LSTM <hidden_size = 8> (x, w, r) }""")
    shapes = tensor_shapes(model)
    extent = Extent(model.graph(), channel_groups(model.graph(), (), shapes), shapes)
    assert extent.macs.at(np.zeros(0)) == counted_macs(model) == 2 * 32 * (16 + 8)
