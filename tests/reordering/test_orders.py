"""Orders of channel groups: answers stay, what is kept never falls, and hidden structure is found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import networks

from crisp_onnx.format import Pattern
from crisp_onnx.groups import ChannelGroup, channel_groups, reorder
from crisp_onnx.masks import Candidates, Planner, Threshold, reason_to_stay_dense
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.reordering import Orders, find_orders, moved_statistics
from crisp_onnx.reordering.search import Work, exchanges, order_of

SMALL = Pattern(2, 4, 4, 2)
Answers = Callable[..., list[np.ndarray]]


def parts(model: Model, kept: float = 0.25, pattern: Pattern = SMALL) -> tuple[tuple[ChannelGroup, ...], Planner]:
    shapes = tensor_shapes(model)
    layers = weight_layers(model, shapes)
    reasons = {layer.name: reason_to_stay_dense(layer, pattern) for layer in layers}
    return channel_groups(model.graph(), layers, shapes), Threshold(Candidates(layers, pattern, reasons), kept)


def magnitudes(model: Model, planner: Planner) -> dict[str, np.ndarray]:
    tensors = model.graph().tensors()
    return {layer.weight: np.abs(layer.matrix(tensors[layer.weight].values)) for layer in planner.candidates.free}


def applied(model: Model, found: Orders) -> Model:
    graph = model.graph()
    for order in found.orders:
        reorder(graph, order.group, order.order)
    return model.with_graph(graph)


@given(networks(), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_reordered_random_networks_answer_the_same_and_keep_no_less(
    answers: Answers, exact_answers: Callable[[Model, np.ndarray], np.ndarray], model: Model, seed: int
) -> None:
    groups, planner = parts(model)
    if not planner.candidates.free:
        return
    saliency = magnitudes(model, planner)
    found = find_orders(groups, planner, saliency)
    image = np.random.default_rng(seed).standard_normal((1, 3, 4, 4)).astype(np.float32)
    for one, other in zip(answers(model, image), answers(applied(model, found), image), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * max(1e-3, np.abs(one).max()))  # of 32 bits
    exact = exact_answers(model, image)
    np.testing.assert_allclose(
        exact, exact_answers(applied(model, found), image), rtol=0, atol=1e-12 * max(1e-3, np.abs(exact).max())
    )
    # The saliency of the reordered weights is the reordered saliency: what the search believed is what there is.
    moved = magnitudes(applied(model, found), planner)
    statistics = moved_statistics(
        {name: torch.from_numpy(values.copy()) for name, values in stored(model, planner).items()}, found.orders
    )
    for name, values in stored(applied(model, found), planner).items():
        np.testing.assert_array_equal(statistics[name].numpy(), values)
    kept = share(planner, moved)
    assert found.after == pytest.approx(kept, rel=1e-6)
    assert all(order.gain >= 0 for order in found.orders)


def stored(model: Model, planner: Planner) -> dict[str, np.ndarray]:
    tensors = model.graph().tensors()
    return {layer.weight: np.abs(tensors[layer.weight].values) for layer in planner.candidates.free}


def share(planner: Planner, saliency: dict[str, np.ndarray]) -> float:
    plan = planner.plan(saliency)
    kept = sum(float(saliency[s.layer.weight][s.mask].sum(dtype=np.float64)) for s in plan.sparse())
    return kept / sum(float(values.sum(dtype=np.float64)) for values in saliency.values())


PAIR = """(float[N,16] x) => (float[N,16] y)
  <float[16,32] first, float[32,16] second> { h = MatMul(x, first) r = Relu(h) y = MatMul(r, second) }"""


def test_blocks_hidden_by_a_random_order_are_found_again(model_of: Callable[..., Model]) -> None:
    """Only every fourth block holds anything, on channels that were shuffled: a good order brings back all of it."""
    rng = np.random.default_rng(0)
    first = np.zeros((32, 16), np.float32)
    for part in range(8):
        column = 4 * (part % 4)
        first[4 * part : 4 * part + 4, [column, column + 2]] = 1 + rng.random((4, 2))
    shuffled = rng.permutation(32)
    second = np.full((32, 16), 1e-3, np.float32)
    model = model_of(PAIR, first=first[shuffled].T, second=second)
    groups, planner = parts(model, kept=0.125)
    found = find_orders(groups, planner, magnitudes(model, planner))
    assert found.before < 0.85
    assert found.after > 0.97
    hidden = next(order for order in found.orders if order.group.width == 32)
    assert hidden.moved > 0
    assert hidden.gain == pytest.approx(found.after - found.before, rel=0.05)


def test_the_same_saliency_gives_the_same_orders(model_of: Callable[..., Model]) -> None:
    model = model_of(PAIR)
    groups, planner = parts(model)
    saliency = magnitudes(model, planner)
    one, other = (find_orders(groups, planner, saliency) for _ in range(2))
    for first, second in zip(one.orders, other.orders, strict=True):
        np.testing.assert_array_equal(first.order, second.order)


def test_what_the_user_sees_and_gives_stays_and_says_why(model_of: Callable[..., Model]) -> None:
    model = model_of(PAIR)
    groups, planner = parts(model)
    found = find_orders(groups, planner, magnitudes(model, planner))
    assert {item.reason for item in found.frozen} == {"graph input 'x'", "graph output 'y'"}
    assert [order.group.width for order in found.orders] == [32]


def test_statistics_that_are_one_for_all_outputs_move_along_the_inputs_alone(model_of: Callable[..., Model]) -> None:
    model = model_of(PAIR)
    groups, planner = parts(model)
    found = find_orders(groups, planner, magnitudes(model, planner))
    order = found.orders[0].order
    given = {"first": torch.rand(16, 1), "second": torch.rand(32, 1), "nothing": torch.zeros(())}
    moved = moved_statistics(given, found.orders)
    assert torch.equal(moved["first"], given["first"])
    assert torch.equal(moved["second"], given["second"][order])
    assert torch.equal(moved["nothing"], given["nothing"])


@given(st.integers(2, 12), st.integers(0, 2**16))
@settings(max_examples=50, deadline=None)
def test_exchanges_only_ever_gain_and_end_where_no_single_one_does(width: int, seed: int) -> None:
    worth = torch.from_numpy(np.random.default_rng(seed).random((width, width)))
    pairs = exchanges(worth, None, 1e-9)
    sums = [float(worth[order_of(pairs[:count], width), torch.arange(width)].sum()) for count in range(len(pairs) + 1)]
    assert all(later > sooner for sooner, later in pairwise(sums))
    best = worth[order_of(pairs, width)]
    gain = best + best.T - best.diagonal()[:, None] - best.diagonal()[None]
    assert float(gain.max()) <= 1e-9


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 3e38, 0.0, None])
def test_exchanges_end_whatever_the_worths_are(value: float | None, keyed: bool) -> None:
    worth = torch.randn(24, 24, generator=torch.Generator().manual_seed(0))
    if value is not None:
        worth[::3] = value
    keys = (torch.arange(24) // 4)[:, None] if keyed else None
    for least in (0.0, -1.0, float("-inf")):  # of what is kept, which may be anything then
        assert len(exchanges(worth, keys, least)) < 24 * 24


def test_the_search_ends_where_saliency_is_negative(model_of: Callable[..., Model]) -> None:
    model = model_of(PAIR)
    groups, planner = parts(model)
    rng = np.random.default_rng(0)
    shapes = {name: values.shape for name, values in magnitudes(model, planner).items()}
    for make in (lambda shape: np.full(shape, -1.0), rng.standard_normal):
        saliency = {name: make(shape).astype(np.float32) for name, shape in shapes.items()}
        (order,) = find_orders(groups, planner, saliency).orders
        assert sorted(order.order) == list(range(32))


def test_places_that_depend_on_each_other_change_once(model_of: Callable[..., Model]) -> None:
    worth = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    keys = (torch.arange(16) // 4)[:, None]
    pairs = exchanges(worth, keys, 0.0)
    touched = [place // 4 for pair in pairs for place in pair]
    assert pairs
    assert len(set(touched)) == len(touched)


def test_work_that_is_too_much_leaves_the_rest_to_smaller_groups() -> None:
    work = Work(10.0)
    assert not work.take(11)
    assert work.take(10)
    assert not work.take(1)


def test_without_work_to_spend_nothing_is_lost(model_of: Callable[..., Model]) -> None:
    model = model_of(PAIR)
    groups, planner = parts(model)
    found = find_orders(groups, planner, magnitudes(model, planner), work=0.0)
    assert found.after >= found.before
