"""FoldBatchNorm and InsertBatchNorm: a normalization goes into its convolution, or one that does nothing is put in."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.passes import InsertBatchNorm
from crisp_onnx.passes.fold_batch_norm import FoldBatchNorm

BN = "float[8] g, float[8] h, float[8] m, float[8] v"
HEAD = "(float[N,3,8,8] x) => (float[N,8,8,8] y) "
POSITIVE = np.linspace(0.5, 2, 8, dtype=np.float32)


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("epsilon", ["0.001", "0.00001"])
def test_the_normalization_goes_into_weight_and_bias(model_of, rewrite, bias, epsilon):
    model = model_of(
        HEAD + f"<float[8,3,3,3] w, float[8] b, {BN}> {{ t = Conv<pads=[1,1,1,1]>(x, w{bias})"
        f" y = BatchNormalization<epsilon={epsilon}>(t, g, h, m, v) }}",
        v=POSITIVE,
    )
    assert rewrite(model, [FoldBatchNorm()]).counts == {"Conv": 1}


def test_depthwise_and_grouped_convolutions_fold_too(model_of, rewrite):
    model = model_of(
        "(float[N,8,8,8] x) => (float[N,8,8,8] y) <float[8,1,3,3] w, " + BN + ", float[8,4,1,1] u> {"
        " t = Conv<group=8, pads=[1,1,1,1]>(x, w) n = BatchNormalization(t, g, h, m, v)"
        " p = Conv<group=2>(n, u) y = BatchNormalization(p, g, h, m, v) }",
        v=POSITIVE,
    )
    assert rewrite(model, [FoldBatchNorm()]).counts == {"Conv": 2}


def test_the_name_of_an_existing_tensor_is_not_taken_for_the_bias(model_of, rewrite):
    model = model_of(
        HEAD + f"<float[8,3,3,3] w, {BN}, float[8,1,1] wbias>"
        "{ t = Conv<pads=[1,1,1,1]>(x, w) n = BatchNormalization(t, g, h, m, v) y = Add(n, wbias) }",
        v=POSITIVE,
    )
    for tensor in model.proto.graph.initializer:
        tensor.name = "w.bias" if tensor.name == "wbias" else tensor.name
    model.proto.graph.node[2].input[1] = "w.bias"
    after = rewrite(model, [FoldBatchNorm()])
    assert after.counts == {"Conv": 1, "Add": 1}


def refused(model_of, rewrite, text, **values):
    after = rewrite(model_of(text, **values), [FoldBatchNorm()])
    assert after.counts["BatchNormalization"] == 1
    return after.reasons[0]


def test_without_a_convolution_before_it_the_normalization_stays(model_of, rewrite):
    text = f"(float[N,8,8,8] x) => (float[N,8,8,8] y) <{BN}> {{ t = Relu(x) y = BatchNormalization(t, g, h, m, v) }}"
    assert refused(model_of, rewrite, text, v=POSITIVE) == "no convolution before it"
    text = f"(float[N,8,8,8] x) => (float[N,8,8,8] y) <{BN}> {{ y = BatchNormalization(x, g, h, m, v) }}"
    assert refused(model_of, rewrite, text, v=POSITIVE) == "no convolution before it"


def test_a_convolution_that_is_read_twice_keeps_its_normalization(model_of, rewrite):
    text = (
        HEAD + f"<float[8,3,3,3] w, {BN}> {{ t = Conv<pads=[1,1,1,1]>(x, w)"
        " n = BatchNormalization(t, g, h, m, v) y = Add(n, t) }"
    )
    assert "also used elsewhere" in refused(model_of, rewrite, text, v=POSITIVE)


def test_a_convolution_that_is_a_graph_output_keeps_its_normalization(model_of, rewrite):
    text = (
        f"(float[N,3,8,8] x) => (float[N,8,8,8] y, float[N,8,8,8] t) <float[8,3,3,3] w, {BN}>"
        "{ t = Conv<pads=[1,1,1,1]>(x, w) y = BatchNormalization(t, g, h, m, v) }"
    )
    assert "also used elsewhere" in refused(model_of, rewrite, text, v=POSITIVE)


def test_a_shared_weight_is_declined(model_of, rewrite):
    text = (
        HEAD + f"<float[8,3,3,3] w, {BN}> {{ t = Conv<pads=[1,1,1,1]>(x, w) u = Conv<pads=[1,1,1,1]>(x, w)"
        " n = BatchNormalization(t, g, h, m, v) y = Add(n, u) }"
    )
    assert refused(model_of, rewrite, text, v=POSITIVE) == "weight 'w' is shared"


def test_a_computed_statistic_is_declined(model_of, rewrite):
    text = (
        "(float[8,3,8,8] x) => (float[8,8,8,8] y) <float[8,3,3,3] w, " + BN + ">"
        "{ t = Conv<pads=[1,1,1,1]>(x, w) c = ReduceMean<axes=[1,2,3], keepdims=0>(x)"
        " y = BatchNormalization(t, g, c, m, v) }"
    )
    after = rewrite(model_of(text, v=POSITIVE), [FoldBatchNorm()], x=np.ones((8, 3, 8, 8), np.float32))
    assert after.reasons == ["a weight or a statistic is computed, not stored"]


def test_a_normalization_in_training_mode_is_declined(model_of, rewrite):
    text = (
        HEAD + f"<float[8,3,3,3] w, {BN}> {{ t = Conv<pads=[1,1,1,1]>(x, w)"
        " y, p, q = BatchNormalization<training_mode=1>(t, g, h, m, v) }"
    )
    assert refused(model_of, rewrite, text, v=POSITIVE) == "it is in training mode"


def test_an_inserted_normalization_changes_nothing_and_folds_away_again(model_of, rewrite):
    model = model_of(HEAD + "<float[8,3,3,3] w> { [c] t = Conv<pads=[1,1,1,1]>(x, w) y = Relu(t) }")
    moments = {"c": (np.linspace(-1, 1, 8), np.linspace(0.1, 4, 8))}
    after = rewrite(model, [InsertBatchNorm(moments)])
    assert after.counts == {"Conv": 1, "BatchNormalization": 1, "Relu": 1}
    assert rewrite(after.model, [FoldBatchNorm()]).counts == {"Conv": 1, "Relu": 1}


def test_moments_that_are_not_finite_are_declined(model_of, rewrite):
    model = model_of(HEAD + "<float[8,3,3,3] w> { [c] t = Conv<pads=[1,1,1,1]>(x, w) y = Relu(t) }")
    after = rewrite(model, [InsertBatchNorm({"c": (np.full(8, np.nan), np.ones(8))})])
    assert after.reasons == ["its outputs are not finite"]
    assert after.counts == {"Conv": 1, "Relu": 1}
