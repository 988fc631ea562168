"""Which layers stay dense, and the sentence that says why; N:M runs along the reduction axis in every layout."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates, Threshold, reason_to_stay_dense
from crisp_onnx.model import tensor_shapes, weight_layers

STEM = "float[32,3,3,3] stem"
HEAD = "(float[N,3,8,8] x) => (float[N,C,H,W] y) "


def reasons(model, **options):
    layers = weight_layers(model, tensor_shapes(model))
    return {layer.weight: reason_to_stay_dense(layer, Pattern(), **options) for layer in layers}


@pytest.mark.parametrize(
    ("declared", "body", "reason"),
    [
        ("float[32,32,3,3] w", "y = Conv(s, w)", ""),
        ("float[32,1,3,3] w", "y = Conv<group=32>(s, w)", "depthwise convolution"),
        ("float[32,8,3,3] w", "y = Conv<group=4>(s, w)", "grouped convolution (4 groups)"),
        ("float[8,32,3,3] w", "y = Conv(s, w)", "smaller than one block: 8 x 288 against 16 x 16"),
        ("float[32,3,1,1] w", "y = Conv(x, w)", "first convolution: its few input channels see the image itself"),
        ("float[32,32,3,3] w, float[32,32,3,3] v", "t = Conv(s, w) y = Conv(t, w)", "weight 'w' is shared by 2 nodes"),
        (
            "float[32,32,3,3] w",
            'y = Conv<auto_pad="SAME_UPPER">(s, w)',
            "auto_pad=SAME_UPPER: the padding depends on the input's size",
        ),
        ("float[32,32,3,3] w", 'y = Conv<auto_pad="VALID">(s, w)', ""),
    ],
)
def test_convolutions_say_why_they_stay_dense(model_of, declared, body, reason):
    model = model_of(HEAD + f"<{STEM}, {declared}> {{ s = Conv<pads=[1,1,1,1]>(x, stem) {body} }}")
    found = reasons(model)
    assert found["w"] == reason
    assert found["stem"].startswith("first convolution")


def test_convolutions_of_other_ranks_stay_dense(model_of):
    one = model_of("(float[N,32,9] x) => (float[N,32,7] y) <float[32,32,3] w> { y = Conv(x, w) }")
    three = model_of("(float[N,32,9,9,9] x) => (float[N,32,7,7,7] y) <float[32,32,3,3,3] w> { y = Conv(x, w) }")
    assert (reasons(one)["w"], reasons(three)["w"]) == ("a 1-D convolution", "a 3-D convolution")


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ("", ""),
        ("<transB=0>", ""),
        ("<alpha=1.0, beta=1.0>", ""),
        ("<alpha=0.5>", "Gemm with transA, alpha or beta"),
        ("<beta=2.0>", "Gemm with transA, alpha or beta"),
        ("<transA=1>", "Gemm with transA, alpha or beta"),
    ],
)
def test_scaled_or_transposed_products_stay_dense(model_of, attrs, reason):
    model = model_of(f"(float[32,32] x) => (float[32,32] y) <float[32,32] w> {{ y = Gemm{attrs}(x, w) }}")
    assert reasons(model)["w"] == reason


def test_a_half_precision_weight_stays_dense(model_of):
    model = model_of("(float16[N,32] x) => (float16[N,32] y) <float16[32,32] w> { y = MatMul(x, w) }")
    assert reasons(model)["w"] == "weight is float16, not float32"


def test_products_of_activations_and_stacks_of_matrices_are_no_weight_layers(model_of):
    model = model_of(
        "(float[4,32,32] x) => (float[4,32,32] y) <float[4,32,32] w> { t = MatMul(x, x) y = MatMul(t, w) }"
    )
    assert not reasons(model)


def test_the_classifier_and_what_the_user_names_stay_dense(model_of):
    model = model_of(
        "(float[N,32] x) => (float[N,32] y) <float[32,32] first, float[32,32] last>"
        "{ [body] t = MatMul(x, first) [head] y = MatMul(t, last) }"
    )
    left = reasons(model, left={"head": "classifier", "body": "kept dense by the user (^bo)"})
    assert left == {"first": "kept dense by the user (^bo)", "last": "classifier"}


@pytest.mark.parametrize("kind", ["Gemm<transB=0>", "Gemm<transB=1>", "MatMul"])
def test_nm_runs_along_the_reduction_axis_in_every_layout(model_of, kind):
    stored = (24, 40) if "=1" in kind else (40, 24)
    model = model_of(f"(float[N,40] x) => (float[N,24] y) <float[{stored[0]},{stored[1]}] w> {{ y = {kind}(x, w) }}")
    (layer,) = weight_layers(model)
    weight = model.graph().tensors()["w"].values
    assert layer.shape == (24, 40, 1, 1)
    matrix = layer.matrix(weight)
    x = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)
    assert np.allclose(x @ matrix.reshape(24, 40).T, x @ (weight.T if "=1" in kind else weight), atol=1e-5)
    assert np.array_equal(layer.stored(matrix, weight), weight)
    plan = Threshold(Candidates((layer,), Pattern(2, 4, 8, 1), {}), 0.3).plan({"w": np.abs(matrix)})
    mask = layer.stored(plan.masks()["w"], weight)
    reduction = mask if stored == (24, 40) else mask.T
    groups = reduction.reshape(24, 10, 4).sum(-1)
    assert set(np.unique(groups)) == {0, 2}


def test_positions_count_the_outputs_of_one_image(model_of):
    model = model_of(
        "(float[N,3,9,8] x) => (float[N,5,8] y) <float[16,3,3,3] c, float[16,8] m, int64[3] s = {0,-1,16}>"
        "{ t = Conv<strides=[2,2], pads=[1,1,1,1]>(x, c) u = Reshape(t, s) y0 = MatMul(u, m) y = Relu(y0) }".replace(
            "[N,5,8] y", "[N,20,8] y"
        )
    )
    conv, matmul = weight_layers(model, tensor_shapes(model))
    assert (conv.positions, matmul.positions) == (20, 20)
    assert (conv.macs, matmul.macs) == (20 * 16 * 27, 20 * 16 * 8)
