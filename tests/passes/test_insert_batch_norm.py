"""InsertBatchNorm changes nothing yet, and takes no name that the model has already."""

from __future__ import annotations

import numpy as np

from crisp_onnx.passes import InsertBatchNorm
from crisp_onnx.passes.fold_batch_norm import FoldBatchNorm

MOMENTS = {"c": (np.full(4, 0.5), np.full(4, 2.0))}
TEXT = "(float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,1,1] w{more}> {{ [c] h = Conv(x, w) {tail} }}"


def test_a_norm_with_the_layers_own_moments_is_the_identity_and_folds_away_again(model_of, rewrite):
    model = model_of(TEXT.format(more="", tail="y = Relu(h)"))
    assert rewrite(model, (InsertBatchNorm(MOMENTS),)).counts == {"Conv": 1, "BatchNormalization": 1, "Relu": 1}
    assert rewrite(model, (InsertBatchNorm(MOMENTS), FoldBatchNorm())).counts == {"Conv": 1, "Relu": 1}


def test_its_tensors_take_no_name_of_the_model(model_of, rewrite):
    model = model_of(
        TEXT.format(more=", float[1,4,1,1] scale", tail="inner = Mul(h, scale) y = Relu(inner)"),
        renamed={"scale": "h.norm.scale", "inner": "h.before_norm"},
    )
    assert rewrite(model, (InsertBatchNorm(MOMENTS),)).counts["BatchNormalization"] == 1
