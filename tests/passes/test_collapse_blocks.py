"""Chains without channels go, and channels that nothing counts: the answers stay what they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import networks
from small_models import residual_classifier

from crisp_onnx.groups import ChannelGroup, channel_groups
from crisp_onnx.model import Model, load, tensor_shapes, weight_layers
from crisp_onnx.passes import CollapseBlocks, FoldGates, RemoveDead, collapsible, run_pass
from crisp_onnx.passes.collapse_blocks import PRODUCTS
from crisp_onnx.passes.insert_gates import edges

Answers = Callable[..., list[np.ndarray]]
RESIDUAL = """
(float[N,4,5,5] x) => (float[N,3] y)
<float[6,4,3,3] a, float[6] ab, float[8,6,3,3] b, float[8] bb, float[6,8,3,3] c, float[6] cb, float[6,3] f>
{
  s = Conv<pads = [1,1,1,1]>(x, a, ab)
  t = Conv<pads = [1,1,1,1]>(s, b, bb)  r = Relu(t)  u = Conv<pads = [1,1,1,1]>(r, c, cb)
  z = Add(u, s)  p = GlobalAveragePool(z)  q = Flatten(p)  y = MatMul(q, f)
}
"""


def free_groups(model: Model, shapes: dict[str, tuple[int, ...]]) -> list[ChannelGroup]:
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    return [g for g in groups if g.removable and g.width > 1 and edges(model.graph(), (g,), shapes)]


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() <= 1e-5 * max(1e-3, np.abs(one).max()))


def image_of(model: Model, batch: int = 1) -> np.ndarray:
    shape = [batch, *model.input.shape[1:]]
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def shut(model: Model, opened: np.ndarray, groups: list[ChannelGroup]) -> Model:
    graph = model.graph()
    run_pass(FoldGates(groups, tensor_shapes(model), opened), graph)
    return model.with_graph(graph)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=40)
def test_collapsing_products_of_zeros_leaves_every_answer(answers: Answers, model: Model, seed: int) -> None:
    rng, graph = np.random.default_rng(seed), model.graph()
    for node in graph.nodes:
        if node.op in PRODUCTS and isinstance(node.inputs[1], gs.Constant) and rng.random() < 0.5:
            node.inputs[1].values = np.zeros_like(node.inputs[1].values)
    zeros = model.with_graph(graph)
    graph = zeros.graph()
    run_pass(CollapseBlocks(tensor_shapes(zeros)), graph)
    collapsed = zeros.with_graph(graph)
    onnx.checker.check_model(collapsed.proto, full_check=True)
    assert close(answers(zeros, image_of(zeros))[0], answers(collapsed, image_of(zeros))[0])


@given(networks(), st.integers(0, 1000))
@settings(max_examples=40)
def test_removing_channels_that_nothing_counts_leaves_every_answer(answers: Answers, model: Model, seed: int) -> None:
    shapes = tensor_shapes(model)
    groups = free_groups(model, shapes)
    if not groups:
        return
    rng = np.random.default_rng(seed)
    opened = (rng.random(sum(group.width for group in groups)) > rng.random()).astype(float)
    masked = shut(model, opened, groups)
    graph = masked.graph()
    run_pass(RemoveDead(channel_groups(masked.graph(), weight_layers(masked, shapes), shapes), shapes), graph)
    narrow = masked.with_graph(graph)
    onnx.checker.check_model(narrow.proto, full_check=True)
    assert close(answers(masked, image_of(model))[0], answers(narrow, image_of(model))[0])


def test_dead_channels_of_a_convolution_go_and_one_of_a_dead_group_stays(model_of: Callable[..., Model]) -> None:
    model = model_of(RESIDUAL)
    shapes = tensor_shapes(model)
    groups = free_groups(model, shapes)
    stream, inner = (next(g for g in groups if g.width == width) for width in (6, 8))
    opened = np.array([1, 0, 1, 1, 0, 1, *[0] * 8])
    masked = shut(model, opened, [stream, inner])
    graph = masked.graph()
    (declined,) = run_pass(RemoveDead([stream, inner], shapes), graph).declined
    assert (declined.node, declined.reason) == (
        inner.producers[0],
        "none of its channels counts; one stays in its place",
    )
    assert {name: graph.tensors()[name].shape for name in "abc"} == {
        "a": (4, 4, 3, 3),
        "b": (1, 4, 3, 3),
        "c": (4, 1, 3, 3),
    }


@given(networks())
@settings(max_examples=40)
def test_all_groups_that_may_die_can_die_together(answers: Answers, model: Model) -> None:
    shapes = tensor_shapes(model)
    groups = free_groups(model, shapes)
    dying = collapsible(model.graph(), groups, shapes)
    opened = np.concatenate([np.full(g.width, float(n not in dying)) for n, g in enumerate(groups)] or [[]])
    masked = shut(model, opened, groups)
    graph = masked.graph()
    collapse = CollapseBlocks(shapes)
    run_pass(collapse, graph)
    narrow = masked.with_graph(graph)
    left = {tensor.name for tensor in narrow.graph().nodes for tensor in tensor.outputs}
    for number in dying:
        assert not left & {member.tensor for member in groups[number].flows}
    assert close(answers(masked, image_of(model))[0], answers(narrow, image_of(model))[0])


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_a_branch_without_channels_becomes_its_other_branch(
    answers: Answers, model_of: Callable[..., Model], shift: float
) -> None:
    """The stem is read by the branch as well while that is there: its bias takes the constant only afterwards."""
    model = model_of(RESIDUAL, c=np.zeros((6, 8, 3, 3)), cb=np.full(6, shift))
    graph = model.graph()
    collapse = CollapseBlocks(tensor_shapes(model))
    run_pass(collapse, graph)
    assert [node.op for node in graph.nodes] == ["Conv", "GlobalAveragePool", "Flatten", "MatMul"]
    (collapsed,) = collapse.collapsed
    assert collapsed.into.startswith("projection")
    images = image_of(model, batch=3)
    assert close(answers(model, images)[0], answers(model.with_graph(graph), images)[0])


def test_a_constant_that_would_be_read_by_a_convolution_stays_computed(model_of: Callable[..., Model]) -> None:
    model = model_of(RESIDUAL, b=np.zeros((8, 6, 3, 3)))
    graph = model.graph()
    (declined,) = run_pass(CollapseBlocks(tensor_shapes(model)), graph).declined
    assert declined.reason.startswith("the constant that it gives would come to Conv ")


def test_the_inner_group_of_a_residual_block_may_die_and_its_stream_may_not(tmp_path) -> None:
    model = load(residual_classifier(tmp_path / "small.onnx"))
    shapes = tensor_shapes(model)
    groups = free_groups(model, shapes)
    dying = collapsible(model.graph(), groups, shapes)
    assert [groups[number].producers for number in dying] == [("conv1",)]
