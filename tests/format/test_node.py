"""One reader and writer: what is written is read back the same, and what cannot be is refused by the node's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.errors import VerificationFailed
from crisp_onnx.format import CONV, CONV_ADD, DOMAIN, GEMM, OPERATORS, HybridTensors, Pattern, hybrid_name, recount
from crisp_onnx.format.node import (
    HybridNode,
    Window,
    activations_of,
    add_residual,
    base_name,
    bias_of,
    data_of,
    is_hybrid,
    kept_blocks_of,
    packed_names,
    read,
    residual_of,
    rewrite,
    set_bias,
    set_bounds,
    tensors_of,
    weight_name,
)
from crisp_onnx.runtime.layer_case import random_tensors

WINDOW = Window((2, 1), (0, 1, 2, 0), (1, 2))


def written(hybrid: HybridNode, kept: int = 2, name: str = "layer") -> gs.Node:
    """A graph's node of an ordinary operator, rewritten."""
    tensors = random_tensors(np.random.default_rng(0), hybrid.shape, hybrid.pattern, kept)
    x, y = gs.Variable("x", np.float32), gs.Variable("y", np.float32)
    node = gs.Node("Conv" if hybrid.window else "Gemm", name, {"group": 1}, [x, gs.Constant("w", np.zeros(1))], [y])
    rewrite(node, hybrid, "w", tensors, gs.Constant("b", np.zeros(hybrid.shape[0], np.float32)))
    return node


@st.composite
def hybrids(draw: st.DrawFn) -> HybridNode:
    m = draw(st.sampled_from([1, 2, 4, 8, 16]))
    pattern = Pattern(draw(st.integers(1, m)), m, 16 * draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 4, 8, 16])))
    lower, upper = sorted(draw(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32))))
    bounds = draw(st.sampled_from([(-math.inf, math.inf), (0.0, math.inf), (lower, upper)]))
    sides = st.integers(1, 40)
    if draw(st.booleans()):
        return HybridNode(OPERATORS[GEMM], pattern, (draw(sides), draw(sides), 1, 1), None, *bounds)
    few = st.integers(1, 3)
    window = Window((draw(few), draw(few)), tuple(draw(st.integers(0, 3)) for _ in range(4)), (draw(few), draw(few)))
    return HybridNode(OPERATORS[CONV], pattern, (draw(sides), draw(sides), draw(few), draw(few)), window, *bounds)


@given(hybrids(), st.integers(1, 40))
def test_what_is_written_is_read_back(hybrid: HybridNode, wanted: int) -> None:
    kept = min(wanted, hybrid.pattern.block_columns(hybrid.shape))
    node = written(hybrid, kept)
    assert read(node) == hybrid
    assert kept_blocks_of(node) == kept
    assert recount(gs.Graph([node]))[0].formula_bytes == hybrid.pattern.bytes(hybrid.shape, kept)
    proto = hybrid.proto("layer", [tensor.name for tensor in node.inputs], "y")
    imported = {a.name: a for a in proto.attribute}
    assert set(imported) == set(hybrid.operator.attributes)
    assert list(proto.input) == ["x", "w.values", "w.indices", "w.blocks", "b"]


def test_the_parts_of_a_node_are_found_by_their_role() -> None:
    node = written(HybridNode(OPERATORS[CONV], Pattern(), (32, 32, 3, 3), WINDOW))
    assert (data_of(node).name, weight_name(node), bias_of(node).name) == ("x", "w", "b")
    assert packed_names(node) == {"w.values", "w.indices", "w.blocks"}
    assert residual_of(node) is None
    assert isinstance(tensors_of(node), HybridTensors)
    other = gs.Variable("z", np.float32)
    add_residual(node, other)
    assert (node.op, residual_of(node)) == (CONV_ADD, other)
    assert [tensor.name for tensor in activations_of(node)] == ["x", "z"]
    set_bounds(node, 0, 6)
    set_bias(node, gs.Constant("c", np.ones(32, np.float32)))
    assert (read(node).lower, read(node).upper, bias_of(node).name) == (0.0, 6.0, "c")
    assert read(node).operator.element == "float32"


def test_a_node_of_another_domain_is_not_hybrid_whatever_its_name() -> None:
    node = written(HybridNode(OPERATORS[CONV], Pattern(), (32, 32, 3, 3), WINDOW))
    assert is_hybrid(node)
    node.domain = "com.other"
    assert not is_hybrid(node)


def test_standard_operators_have_their_hybrid_ones() -> None:
    assert [hybrid_name(op) for op in ("Conv", "Gemm", "MatMul", "Relu", CONV_ADD)] == [
        CONV, GEMM, GEMM, "Relu", CONV_ADD,
    ]  # fmt: skip


def test_the_output_sides_of_a_window_are_those_of_onnx() -> None:
    assert WINDOW.out_sides((15, 14), (3, 3)) == (8, 11)
    assert Window().out_sides((7, 7), (1, 1)) == (7, 7)


def test_a_base_name_leaves_every_name_of_the_file_alone() -> None:
    taken = {"w", "w.values", "w_1", "v", "v.bias"}
    assert base_name(taken, "w") == "w_2"
    assert base_name(taken, "w") == "w_3"
    assert base_name(taken, "v") == "v"
    assert {"w_2.values", "w_2.indices", "w_2.blocks", "v.blocks"} <= taken


VALUES = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 4, 8, 16, 255, 2**31, 2**62, 1.5, math.nan, "text", b"\xff", [], [1, 1],
          [0, 1], [1] * 4, [2**40] * 4, [1.0, 2.0], ["a", "b"], None)  # fmt: skip


def cut(node: gs.Node, slot: int) -> None:
    node.inputs[slot].values = node.inputs[slot].values[:-1]


def flatten(node: gs.Node, slot: int) -> None:
    node.inputs[slot].values = node.inputs[slot].values.reshape(-1)


def retype(node: gs.Node, slot: int) -> None:
    node.inputs[slot].values = node.inputs[slot].values.astype(np.float64)


def overwrite(node: gs.Node, slot: int) -> None:
    stored = node.inputs[slot].values
    node.inputs[slot].values = np.frombuffer(b"\xff" * stored.nbytes, stored.dtype).reshape(stored.shape)


def compute(node: gs.Node, slot: int) -> None:
    node.inputs[slot] = gs.Variable("late", np.float32)


def rename(node: gs.Node, slot: int) -> None:
    node.op = "HybridTomorrow"


DAMAGES = (
    lambda node, slot: None, lambda node, slot: node.inputs.pop(slot), lambda node, slot: node.outputs.clear(),
    cut, flatten, retype, overwrite, compute, rename,
)  # fmt: skip


@given(
    hybrids(),
    st.lists(st.tuples(st.sampled_from([*OPERATORS[CONV].attributes, "gone"]), st.sampled_from(VALUES)), max_size=3),
    st.sampled_from(DAMAGES),
    st.integers(1, 4),
)
def test_a_damaged_node_is_refused_by_its_name_or_is_whole(
    hybrid: HybridNode, changes: list[tuple[str, Any]], damage: Callable[[gs.Node, int], Any], slot: int
) -> None:
    node = written(hybrid, 1, name="the node")
    node.attrs |= dict(changes)
    node.attrs = {key: value for key, value in node.attrs.items() if value is not None}
    damage(node, slot)
    try:
        (layer,) = recount(gs.Graph([node]))
    except VerificationFailed as error:
        assert "'the node'" in str(error)
    else:
        assert layer.pattern.bytes(layer.shape, layer.kept_blocks) == layer.formula_bytes
        assert 0 <= layer.density <= 1


def test_a_weight_that_is_wide_only_by_its_word_is_counted_without_expanding_it() -> None:
    node = written(HybridNode(OPERATORS[GEMM], Pattern(), (32, 64, 1, 1)), 2)
    honest = recount(gs.Graph([node]))[0].non_zeros
    node.attrs["weight_shape"] = [32, 2**50, 1, 1]
    assert recount(gs.Graph([node]))[0].non_zeros == honest == 2 * 2 * 16 * 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strides": [0, 1]}, "impossible window"),
        ({"pads": [0, 0, -1, 0]}, "impossible window"),
        ({"dilations": [1]}, "2 whole numbers in 'dilations'"),
        ({"lower": "low"}, "could not convert"),
        ({"n": 2.0}, "a whole number in 'n'"),
        ({"weight_shape": [32, 32, 3, 0]}, "weight shape (32, 32, 3, 0)"),
        ({"weight_shape": [64, 32, 3, 3]}, "has values of shape"),
    ],
)
def test_every_part_of_a_node_is_checked(change: dict[str, Any], words: str) -> None:
    node = written(HybridNode(OPERATORS[CONV], Pattern(), (32, 32, 3, 3), WINDOW))
    node.attrs |= change
    with pytest.raises(VerificationFailed, match=r"HybridConv 'layer'.*damaged") as caught:
        read(node)
    assert words in str(caught.value)


def test_a_matrix_product_has_no_window() -> None:
    node = written(HybridNode(OPERATORS[GEMM], Pattern(), (32, 64, 1, 1)))
    node.attrs["weight_shape"] = [32, 32, 2, 1]
    with pytest.raises(VerificationFailed, match="has no window"):
        read(node)
    assert node.domain == DOMAIN


class _OfAnOddType(gs.Constant):
    """A stored tensor of an element type that has no name in NumPy."""

    @property
    def dtype(self) -> int:
        return 20


def test_an_element_type_that_numpy_lacks_is_a_damaged_node() -> None:
    node = written(HybridNode(OPERATORS[CONV], Pattern(), (32, 32, 3, 3), WINDOW))
    values = node.inputs[1]
    node.inputs[1] = _OfAnOddType(values.name, values.values)
    with pytest.raises(VerificationFailed, match="values of type number 20, not float32"):
        read(node)
