"""MACs against a count of every multiplication, by numbers that count when they are multiplied."""

from __future__ import annotations

from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from crisp_onnx.api.prepare import prepare
from crisp_onnx.format import Pattern
from crisp_onnx.lowering import lower
from crisp_onnx.masks import Candidates, Threshold
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.model.macs import beside_layers


class Counted:
    """A number that counts the products it is made of."""

    made = 0

    def __mul__(self, other: Counted) -> Counted:
        Counted.made += 1
        return self

    def __add__(self, other: object) -> Counted:
        return self

    __radd__ = __add__


def counted(*shape: int) -> np.ndarray:
    array = np.empty(shape, object)
    for place in np.ndindex(shape):
        array[place] = Counted()
    return array


def products_in(run) -> int:
    Counted.made = 0
    run()
    return Counted.made


def macs_of_one_node(op: str, shapes: list[tuple[int, ...]], **attributes) -> int:
    names = [f"t{place}" for place in range(len(shapes))]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attributes)], "g", inputs, [out])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    first, *others = inputs
    for value in others:  # graphs have one input; the others are what a caller may override
        proto.graph.initializer.append(
            helper.make_tensor(value.name, TensorProto.FLOAT, [d.dim_value for d in value.type.tensor_type.shape.dim],
                               np.ones(prod(d.dim_value for d in value.type.tensor_type.shape.dim), np.float32))
        )  # fmt: skip
    model = Model(proto, Path("one.onnx"), "")
    found = beside_layers(model, (), tensor_shapes(model) | {first.name: shapes[0]})
    assert not found.untold
    return found.macs * shapes[0][0]  # for all images of the first axis


sides = st.integers(1, 3)


@given(sides, sides, sides, sides, sides, st.booleans())
def test_products_of_stacks_count_each_row_times_each_column(a, b, m, k, n, stacked) -> None:
    left, right = (a, b, m, k), ((b, k, n) if stacked else (k, n))
    expected = products_in(lambda: np.matmul(counted(*left), counted(*right)))
    assert macs_of_one_node("MatMul", [left, right]) == expected == a * b * m * k * n


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_transposed_gemm_counts_like_the_plain_one(trans_a, trans_b) -> None:
    left, right = (4, 6), (6, 5)
    shapes = [left[::-1] if trans_a else left, right[::-1] if trans_b else right]
    expected = products_in(lambda: counted(*left) @ counted(*right))
    found = macs_of_one_node("Gemm", shapes, transA=trans_a, transB=trans_b)
    assert found == -(-expected // shapes[0][0]) * shapes[0][0]


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("nchw,cd->ndhw", (2, 3, 2, 2), (3, 5)),
        ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
        ("bhqk,bhkd->bhqd", (2, 2, 3, 5), (2, 2, 5, 4)),
        ("...ij,...jk->...ik", (2, 3, 4, 5), (2, 3, 5, 6)),
        ("...ij,jk->...ik", (2, 3, 4, 5), (5, 6)),
        ("ij,jk", (2, 5), (5, 3)),
        ("bi,j->bij", (2, 3), (4,)),
        ("b i , b i -> b", (2, 3), (2, 3)),
    ],
)
def test_an_einsum_of_two_counts_every_pair_that_meets(equation, left, right) -> None:
    expected = products_in(lambda: np.einsum(equation, counted(*left), counted(*right)))
    assert macs_of_one_node("Einsum", [left, right], equation=equation) == expected


def test_an_einsum_sums_what_is_in_one_operand_alone_before_it_multiplies() -> None:
    assert macs_of_one_node("Einsum", [(2, 3, 7), (3, 4)], equation="bcx,cd->bd") == 2 * 3 * 4


def convolved(image, weight, out, stride, pad, groups) -> int:
    """Four loops (and those over the window): products with the padding, which kernels multiply too."""
    padded = np.pad(np.ones(image, int), ((0, 0), (0, 0), *((pad, pad) for _ in image[2:])))
    made = 0
    for n in range(out[0]):
        for channel in range(out[1]):
            first = channel // (out[1] // groups) * weight[1]
            for y, x in product(range(out[2]), range(out[3])):
                window = padded[n, first : first + weight[1], y * stride :, x * stride :][:, : weight[2], : weight[3]]
                made += window.size
    return made


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("stride", "pad"), [(1, 1), (2, 1), (1, 0)])
def test_a_convolution_counts_its_window_at_every_output(groups, stride, pad) -> None:
    image, weight = (2, 4, 6, 5), (8, 4 // groups, 3, 3)
    out = (2, 8, (6 + 2 * pad - 3) // stride + 1, (5 + 2 * pad - 3) // stride + 1)
    expected = convolved(image, weight, out, stride, pad, groups)
    found = macs_of_one_node("Conv", [image, weight], strides=[stride] * 2, pads=[pad] * 4, group=groups)
    assert found == expected


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_spreads_every_input_over_its_window(groups) -> None:
    image, weight = (2, 4, 3, 5), (4, 3, 2, 2)
    made = 0
    for _, channel, _, _ in np.ndindex(image):
        first = channel // (4 // groups) * 3
        for _ in product(range(first, first + 3), range(2), range(2)):
            made += 1
    assert macs_of_one_node("ConvTranspose", [image, weight], strides=[2, 2], group=groups) == made


def test_attention_counts_queries_times_keys_and_shares_times_values() -> None:
    query, key, value = (2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 6)

    def run() -> None:
        np.matmul(counted(*query), counted(*key).swapaxes(2, 3))
        np.matmul(counted(2, 2, 3, 5), counted(*value))

    assert macs_of_one_node("Attention", [query, key, value]) == products_in(run)


GRAPHS = {
    "tokens in rows of a Gemm": (
        """(float[N,3,4,4] x) => (float[N,6] y)
        <float[16,3,1,1] a, float[16,32] b, float[32,6] c, int64[2] rows = {-1,16}, int64[3] back = {-1,16,32}> {
            f = Conv(x, a)  g = Transpose<perm=[0,2,3,1]>(f)  h = Reshape(g, rows)  i = Gemm(h, b)
            j = Reshape(i, back)  k = ReduceMean<axes=[1], keepdims=0>(j)  y = Gemm(k, c) }""",
        16 * 3 * 16 + 16 * 16 * 32 + 32 * 6,
        0,
    ),
    "parts of an image as a batch": (
        """(float[N,3,4,4] x) => (float[N,6] y)
        <float[16,3,3,3] a, float[64,6] c, int64[4] parts = {-1,3,2,4}, int64[2] back = {-1,32}, float[32,6] d> {
            p = Reshape(x, parts)  f = Conv<pads=[1,1,1,1]>(p, a)  g = GlobalAveragePool(f)
            h = Reshape(g, back)  y = Gemm(h, d) }""",
        2 * 8 * 16 * 27 + 32 * 6,
        0,
    ),
    "attention": (
        """(float[N,3,4,4] x) => (float[N,6] y) <float[8,3,1,1] a, float[8,8] q, float[8,6] c, int64[3] s = {0,8,-1}> {
            f = Conv(x, a)  g = Reshape(f, s)  h = Transpose<perm=[0,2,1]>(g)  i = MatMul(h, q)
            t = Transpose<perm=[0,2,1]>(h)  j = MatMul(i, t)  k = Softmax(j)  l = MatMul(k, h)
            m = ReduceMean<axes=[1], keepdims=0>(l)  y = Gemm(m, c) }""",
        8 * 3 * 16 + 16 * 8 * 8 + 2 * 16 * 16 * 8 + 8 * 6,
        2 * 16 * 16 * 8,
    ),
    "a weight on the left": (
        """(float[N,3,4,4] x) => (float[N,6] y) <float[8,3,1,1] a, float[5,16] w, float[8,6] c, int64[3] s = {0,8,-1}> {
            f = Conv(x, a)  g = Reshape(f, s)  h = Transpose<perm=[0,2,1]>(g)  i = MatMul(w, h)
            m = ReduceMean<axes=[1], keepdims=0>(i)  y = Gemm(m, c) }""",
        8 * 3 * 16 + 5 * 16 * 8 + 8 * 6,
        5 * 16 * 8,
    ),
    "a transposed convolution": (
        """(float[N,3,4,4] x) => (float[N,6] y) <float[8,3,1,1] a, float[8,4,2,2] w, float[4,6] c> {
            f = Conv(x, a)  g = ConvTranspose<strides=[2,2]>(f, w)  h = GlobalAveragePool(g)  i = Flatten(h)
            y = Gemm(i, c) }""",
        8 * 3 * 16 + 8 * 16 * 4 * 4 + 4 * 6,
        8 * 16 * 4 * 4,
    ),
    "an Einsum": (
        """(float[N,3,4,4] x) => (float[N,6] y) <float[8,3,1,1] a, float[8,4] w, float[4,6] c> {
            f = Conv(x, a)  g = Einsum<equation="nchw,cd->ndhw">(f, w)  h = GlobalAveragePool(g)  i = Flatten(h)
            y = Gemm(i, c) }""",
        8 * 3 * 16 + 8 * 4 * 16 + 4 * 6,
        8 * 4 * 16,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", ["N", "1", "3"])
def test_check_and_estimate_count_all_products_of_one_image(model_of, name, batch) -> None:
    text, whole, beside = GRAPHS[name]
    model = model_of(text.replace("[N,", f"[{batch},"))
    found = prepare(model)
    assert (found.macs, found.beside.macs, found.beside.untold) == (whole, beside, ())
    images = int(batch) if batch != "N" and found.model.input.shape[0] is not None else 1
    assert lower(found.model, "stc_edge_int8").totals.macs == images * whole


def test_what_cannot_be_told_is_a_note(model_of) -> None:
    model = model_of("""(float[N,4] x) => (float[N,2] y) <float[4,4] a, float[4,2] b> {
        p = Einsum<equation="ni,ij,jk->nk">(x, a, b)  y = Relu(p) }""")
    found = prepare(model)
    assert found.macs == 0
    assert any("MACs leave out what cannot be told: Einsum" in note for note in found.notes)


def test_a_budget_of_macs_counts_products_that_are_never_pruned(model_of) -> None:
    model = model_of("""(float[N,32,4,4] x) => (float[N,6] y)
        <float[64,32,3,3] a, float[64,64,3,3] b, float[64,32,2,2] w, float[32,6] c> {
            e = Conv<pads=[1,1,1,1]>(x, a)  f = Conv<pads=[1,1,1,1]>(e, b)  g = ConvTranspose<strides=[2,2]>(f, w)
            h = GlobalAveragePool(g)  i = Flatten(h)  y = Gemm(i, c) }""")
    found = prepare(model)
    layers = weight_layers(found.model, found.shapes)
    reasons = {layer.name: layer.obstacle or ("classifier" if layer.op == "Gemm" else "") for layer in layers}
    planner = Threshold(Candidates(layers, Pattern(), reasons, macs_beside=found.beside.macs), 0.6, "macs")
    rng = np.random.default_rng(0)
    plan = planner.plan({layer.weight: rng.random(layer.shape, np.float32) for layer in layers})
    whole = 16 * (64 * 32 * 9 + 64 * 64 * 9 + 64 * 32 * 4) + 32 * 6
    kept = whole - sum(16 * int((~sparse.mask).sum()) for sparse in plan.sparse())
    assert (plan.dense_macs, plan.kept_macs) == (whole, kept)
    assert planner.spent(plan).met
    assert abs(kept / whole - 0.6) < 0.01
    assert plan.without({next(plan.sparse()).layer.name: "slower"}).dense_macs == whole
