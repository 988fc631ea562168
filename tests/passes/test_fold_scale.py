"""FoldScale: Mul by a stored number per channel goes into the convolution before it."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.passes import SIMPLIFY, ApplyMasks, hybrid_passes
from crisp_onnx.passes.fold_scale import FoldScale

HEAD = "(float[N,3,8,8] x) => (float[N,8,8,8] y) "
DECLARED = "float[8,3,3,3] w, float[8] b, float[8,1,1] s"
CONV = "Conv<pads=[1,1,1,1]>"


@pytest.mark.parametrize("shape", ["8,1,1", "1,8,1,1", "1", "1,1,1"])
@pytest.mark.parametrize("order", ["t, s", "s, t"])
def test_a_number_per_channel_goes_into_weight_and_bias(model_of, rewrite, shape, order):
    model = model_of(
        HEAD + f"<float[8,3,3,3] w, float[8] b, float[{shape}] s> {{ t = {CONV}(x, w, b) y = Mul({order}) }}"
    )
    assert rewrite(model, [FoldScale()]).counts == {"Conv": 1}


def test_a_convolution_without_bias_gets_none(model_of, rewrite):
    model = model_of(HEAD + f"<{DECLARED}> {{ t = {CONV}(x, w) y = Mul(t, s) }}")
    after = rewrite(model, [FoldScale()])
    assert after.counts == {"Conv": 1}
    assert len(after.graph.nodes[0].inputs) == 2


def test_a_bias_that_two_convolutions_read_is_scaled_for_one_alone(model_of, rewrite):
    model = model_of(
        HEAD + f"<{DECLARED}, float[8,3,3,3] v>"
        "{ t = Conv<pads=[1,1,1,1]>(x, w, b) u = Mul(t, s) q = Conv<pads=[1,1,1,1]>(x, v, b) y = Add(u, q) }"
    )
    assert rewrite(model, [FoldScale()]).counts == {"Conv": 2, "Add": 1}


@pytest.mark.parametrize("shape", ["8", "8,8", "1,1,8", "1,8,1"])
def test_a_constant_along_another_axis_is_declined(model_of, rewrite, shape):
    model = model_of(HEAD + f"<float[8,3,3,3] w, float[{shape}] s> {{ t = {CONV}(x, w) y = Mul(t, s) }}")
    after = rewrite(model, [FoldScale()])
    assert after.counts == {"Conv": 1, "Mul": 1}
    assert "not one value per channel" in after.reasons[0]


def test_a_constant_with_more_axes_than_the_image_is_declined(model_of, rewrite):
    model = model_of(
        "(float[N,3,8,8] x) => (float[1,N,8,8,8] y) <float[8,3,3,3] w, float[1,1,1,1,1] s>"
        "{ t = Conv<pads=[1,1,1,1]>(x, w) y = Mul(t, s) }"
    )
    assert "not one value per channel" in rewrite(model, [FoldScale()]).reasons[0]


def test_an_output_that_is_read_twice_is_declined(model_of, rewrite):
    model = model_of(HEAD + f"<{DECLARED}> {{ t = {CONV}(x, w) u = Mul(t, s) y = Add(u, t) }}")
    assert "also used elsewhere" in rewrite(model, [FoldScale()]).reasons[0]


def test_a_shared_weight_is_declined(model_of, rewrite):
    model = model_of(HEAD + f"<{DECLARED}> {{ t = {CONV}(x, w) u = Mul(t, s) v = {CONV}(x, w) y = Add(u, v) }}")
    assert rewrite(model, [FoldScale()]).reasons == ["weight 'w' is shared"]


def test_a_computed_bias_is_declined(model_of, rewrite):
    model = model_of(
        HEAD
        + "<float[8,3,3,3] w, float[8,1,1] s, int64[3] axes = {0,2,3}, float[1,8,1,1] one>"
        "{ m = Mul(x, x) c = Conv<pads=[1,1,1,1]>(m, w) b = ReduceMean<axes=[0,2,3], keepdims=0>(c)"
        "  t = Conv<pads=[1,1,1,1]>(x, w2, b) y = Mul(t, s) }".replace("w2", "w")
    )
    assert "computed, not stored" in rewrite(model, [FoldScale()]).reasons[0]


def test_a_caffe_style_layer_becomes_one_hybrid_convolution(model_of, rewrite, plan_of):
    model = model_of(
        "(float[N,3,8,8] x) => (float[N,32,8,8] y)"
        "<float[16,3,3,3] w0, float[32,16,3,3] w, float[32] gamma, float[32] beta, float[32] mean, float[32] var,"
        " float[32] s1, float[32] b1, int64[2] axes = {1,2}>"
        "{ h = Conv<pads=[1,1,1,1]>(x, w0) t = Conv<pads=[1,1,1,1]>(h, w)"
        "  n = BatchNormalization(t, gamma, beta, mean, var) s = Unsqueeze(s1, axes) m = Mul(n, s)"
        "  b = Unsqueeze(b1, axes) a = Add(m, b) y = Relu(a) }",
        var=np.full(32, 0.7, np.float32),
    )
    simple = rewrite(model, SIMPLIFY).model
    plan = plan_of(simple)
    masked = simple.graph()
    ApplyMasks(plan).run(masked)
    after = rewrite(simple, hybrid_passes(plan), reference=simple.with_graph(masked))
    assert after.counts == {"Conv": 1, "HybridConv": 1}
    assert after.graph.nodes[1].attrs["lower"] == 0
