"""Operators without weights compute on bytes where fewer numbers cross so, held against every choice that there is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.format.node import Grid
from crisp_onnx.model import Model, with_value_info
from crisp_onnx.quantize.crossings import on_bytes, with_parts
from crisp_onnx.quantize.model import quantise_model, quantised_tensors

FREE = {"Add", "Mul", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Clip"}
LAYERS = """(float[N,4,6,6] x) => (float[N,4,6,6] y) <float[4,4,1,1] w, float[4,4,1,1] v> {{
  a = Conv(x, w)
  {between}
  y = Conv(b, v)
}}"""


def chosen(model: Model) -> set[str]:
    graph = with_value_info(model).graph()
    layers = [node.name for node in graph.nodes if node.op == "Conv"]
    found = on_bytes(graph, layers, [node.name for node in graph.nodes if node.op in FREE])
    return {node.outputs[0].name for node in graph.nodes if node.name in found}


@pytest.mark.parametrize(
    ("between", "bytes_at"),
    [
        ("r = Relu(a) b = MaxPool<kernel_shape = [1, 1]>(r)", {"r", "b"}),
        ("e = Erf(a) p = Add(e, a) b = Mul(p, a)", set()),  # a GELU's pieces: once out of bytes, once into them
        ("r = Relu(a) e = Erf(r) b = Add(r, e)", set()),  # either way once; then no operator stands on bytes
        ("m = GlobalAveragePool(a) g = HardSigmoid(m) b = Mul(a, g)", {"m", "b"}),  # the gate is small
        ("e = Erf(a) p = Add(e, e) b = Erf(p)", set()),
    ],
)
def test_what_meets_real_numbers_more_than_bytes_stays_in_them(
    between: str, bytes_at: set[str], model_of: Callable[..., Model]
) -> None:
    assert chosen(model_of(LAYERS.format(between=between))) == bytes_at


def test_scores_are_computed_on_to_the_end_on_bytes(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,4,1,1] x) => (float[N,4,1,1] y) <float[4,4,1,1] w, float b> { a = Conv(x, w) y = Add(a, b) }"
    )
    assert chosen(model) == {"y"}


@pytest.mark.parametrize(
    ("between", "joining"),
    [
        ("m = Transpose<perm = [0, 1, 3, 2]>(a) q = Gather<axis = 3>(m, i) k = Gather<axis = 3>(m, j)", {*"mqk"}),
        ("e = Erf(a) q = Gather<axis = 3>(e, i) k = Gather<axis = 3>(e, j)", set()),
        ("q = Gather<axis = 3>(a, i) k = Transpose<perm = [0, 1, 3, 2]>(a)", {"q"}),
    ],
)
def test_parts_are_taken_of_bytes_so_that_each_is_made_real_alone(
    between: str, joining: set[str], model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]]
) -> None:
    text = f"""(float[N,4,6,6] x) => (float[?,?,?,?] y) <float[4,4,1,1] w, int64[1] i = {{1}}, int64[1] j = {{2}}> {{
      [layer] a = Conv(x, w) {between} f = Erf(q) g = Erf(k) y = Add(f, g)
    }}"""
    model = with_value_info(model_of(text, w=np.eye(4, dtype=np.float32)[:, :, None, None]))
    graph = model.graph()
    names = {node.name: node.outputs[0].name for node in graph.nodes}
    free = [node.name for node in graph.nodes if node.op in ("Transpose", "Gather")]
    assert {names[name] for name in with_parts(graph, {"layer"}, free)} == joining
    grids = {name: Grid(0.03, 128) for name in quantised_tensors(graph)}
    written = quantise_model(model, grids, size=(6, 6)).model
    makers = {output: node for node in written.proto.graph.node for output in node.output}
    x = np.clip(np.random.default_rng(0).standard_normal((2, 4, 6, 6)), -3, 3).astype(np.float32)
    (found,), (expected,) = answers(written, x), answers(model, x)
    assert np.abs(found - expected).max() < 0.1 and expected.std() > 0.2
    for name in joining & {"q", "k"}:
        reader = next(node for node in written.proto.graph.node if node.op_type == "Erf" and name in node.input[0])
        assert makers[reader.input[0]].op_type == "DequantizeLinear"


def crossed(graph: gs.Graph, on: frozenset[str]) -> int:
    """Numbers that cross, counted tensor by tensor."""
    total = 0
    for tensor in graph.tensors().values():
        made = bool(tensor.inputs) and tensor.inputs[0].name in on
        if any((reader.name in on) != made for reader in tensor.outputs):
            total += int(np.prod(tensor.shape))
    return total


@st.composite
def graphs(draw: st.DrawFn) -> tuple[gs.Graph, list[str], list[str]]:
    """Nodes of one or two inputs over tensors of several sizes, some with an int8 form, some without, some free."""
    tensors = [gs.Variable("x", np.float32, [draw(st.integers(1, 5))])]
    nodes, kinds = [], draw(st.lists(st.sampled_from(["layer", "free", "free", "real"]), min_size=1, max_size=9))
    for i, kind in enumerate(kinds):
        sources = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2, unique_by=lambda t: t.name))
        out = gs.Variable(f"t{i}", np.float32, [draw(st.integers(1, 5))])
        nodes.append(gs.Node(kind, f"n{i}", {}, sources, [out]))
        tensors.append(out)
    graph = gs.Graph(nodes, [tensors[0]], [tensors[-1]])
    return graph, *([f"n{i}" for i, kind in enumerate(kinds) if kind == wanted] for wanted in ("layer", "free"))


@given(graphs())
def test_no_other_choice_crosses_fewer_numbers(case: tuple[gs.Graph, list[str], list[str]]) -> None:
    graph, layers, free = case
    found = on_bytes(graph, layers, free)
    costs = {
        frozenset(some): crossed(graph, frozenset((*some, *layers)))
        for some in chain.from_iterable(combinations(free, count) for count in range(len(free) + 1))
    }
    least = min(costs.values())
    assert costs[found] == least
    assert all(found <= some for some, cost in costs.items() if cost == least)
