"""Lengths that follow from the shapes of a graph become numbers; open ones stay open, and the answers stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.api.widths import with_stated_lengths
from crisp_onnx.model import Model
from crisp_onnx.model.shapes import facts, inform
from crisp_onnx.passes import FoldLengths, run_pass

Answers = Callable[..., list[np.ndarray]]


def folded(model: Model) -> tuple[Model, gs.Graph]:
    graph = model.graph()
    inform(graph, facts(model))
    run_pass(FoldLengths(), graph)
    return model.with_graph(graph), model.with_graph(graph).graph()


def assert_same_for_any_batch(answers: Answers, one: Model, other: Model, *shape: int) -> None:
    for batch in (1, 3):
        image = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        assert np.array_equal(answers(one, image)[0], answers(other, image)[0])


PICKS = "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] four = {4}"


def test_a_reshape_keeps_its_open_batch_and_states_the_rest(answers: Answers, model_of: Callable[..., Model]) -> None:
    model = model_of(
        f"(float[N,8,2,2] x) => (float[N,A,B] y) <{PICKS}>"
        "{ s = Shape(x) n = Gather(s, i0) c = Gather(s, i1) t = Concat<axis=0>(n, c, four) y = Reshape(x, t) }"
    )
    plain, graph = folded(model)
    (reshape,) = graph.nodes
    assert reshape.inputs[1].values.tolist() == [0, 8, 4]
    assert_same_for_any_batch(answers, model, plain, 8, 2, 2)


def test_a_scale_that_is_computed_from_a_width_becomes_a_number(
    answers: Answers, model_of: Callable[..., Model]
) -> None:
    model = model_of(
        "(float[N,16] x) => (float[N,16] y) <int64 one = {1}>"
        "{ s = Shape(x) c = Gather(s, one) f = Cast<to=1>(c) r = Sqrt(f) y = Div(x, r) }"
    )
    plain, graph = folded(model)
    assert [node.op for node in graph.nodes] == ["Sqrt", "Div"]
    assert graph.nodes[0].inputs[0].values == 16
    assert_same_for_any_batch(answers, model, plain, 16)


def test_a_resize_asks_for_its_batch_alone(answers: Answers, model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,4,2,2] x) => (float[N,4,4,4] y) <int64[1] zero = {0}, int64[1] two = {2}, int64[2] wide = {4, 4}>"
        '{ s = Shape(x) h = Slice(s, zero, two) t = Concat<axis=0>(h, wide) y = Resize<mode="nearest">(x, , , t) }'
    )
    plain, graph = folded(model)
    assert [node.op for node in graph.nodes] == ["Shape", "Gather", "Concat", "Resize"]
    joined = graph.nodes[2]
    assert [piece.values.tolist() for piece in joined.inputs if isinstance(piece, gs.Constant)] == [[4], [4], [4]]
    assert_same_for_any_batch(answers, model, plain, 4, 2, 2)


def test_open_lengths_and_what_depends_on_values_stay_computed(model_of: Callable[..., Model]) -> None:
    model = model_of(
        f"(float[N,8,H,W] x) => (float[A,B,C] y) <{PICKS}, int64[1] i2 = {{2}}, int64[1] i3 = {{3}}>"
        "{ s = Shape(x) n = Gather(s, i0) h = Gather(s, i2) w = Gather(s, i3) p = Mul(h, w) c = Gather(s, i1)"
        " t = Concat<axis=0>(n, p, c) y = Reshape(x, t) }"
    )
    _, graph = folded(model)
    assert graph.nodes[-1].inputs[1].values.tolist() == [0, -1, 8]


def test_what_is_repeated_for_each_image_asks_the_input_how_many_there_are(
    answers: Answers, model_of: Callable[..., Model]
) -> None:
    model = model_of(
        "(float[N,3,4] x) => (float[N,1,4] y) <float[1,1,4] token, int64[1] zero = {0}, int64[1] two = {2},"
        " int64[1] one = {1}>"
        "{ r = Relu(x) s = Shape(r) n = Gather(s, zero) c = Gather(s, two) t = Concat<axis=0>(n, one, c)"
        " y = Expand(token, t) }"
    )
    plain, graph = folded(model)
    (expand,) = [node for node in graph.nodes if node.op == "Expand"]
    assert [piece.values.tolist() for piece in expand.inputs[1].inputs[0].inputs[1:]] == [[1], [4]]
    assert_same_for_any_batch(answers, model, plain, 3, 4)


def test_lengths_of_one_block_after_another_become_numbers(answers: Answers, model_of: Callable[..., Model]) -> None:
    """Each block asks for the length that the one before it gave, which is known one round later."""
    count = 6
    blocks = " ".join(
        f"s{i} = Shape(h{i}) c{i} = Gather(s{i}, at) d{i} = Div(c{i}, at) t{i} = Concat<axis=0>(open, d{i}, at)"
        f" p{i} = Slice(h{i}, zero, d{i}, at) h{i + 1} = Concat<axis=1>(p{i})"
        for i in range(count)
    )
    model = model_of(
        "(float[N,8] x) => (float[N,W] y) <int64[1] at = {1}, int64[1] open = {-1}, int64[1] zero = {0}>"
        f"{{ h0 = Relu(x) {blocks} y = Relu(h{count}) }}"
    )
    plain = with_stated_lengths(model, (1, 1))
    assert not [node for node in plain.graph().nodes if node.op == "Shape"]
    assert_same_for_any_batch(answers, model, plain, 8)
