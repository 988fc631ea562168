"""Operators without weights compute on bytes where fewer numbers cross so, held against every choice that there is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.model import Model, with_value_info
from crisp_onnx.quantize.crossings import on_bytes

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
