"""SliceHead: the outputs that stay are the columns of the original's, in the order of the class list."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from crisp_onnx.model import with_value_info
from crisp_onnx.passes import SliceHead, run_passes

KEEP = [7, 0, 3]
ROW = "(float[N,16] x) => (float[N,10] y) "
IMAGE = "(float[N,16,4,4] x) => (float[N,10] y) "
CASES = {
    "gemm": ROW + "<float[10,16] w, float[10] b> { y = Gemm<transB=1>(x, w, b) }",
    "gemm, plain layout": ROW + "<float[16,10] w, float[1,10] b> { y = Gemm(x, w, b) }",
    "matmul and add": ROW + "<float[16,10] w, float[10] b> { t = MatMul(x, w) y = Add(b, t) }",
    "scalar": ROW + "<float[16,10] w, float b> { t = MatMul(x, w) y = Add(b, t) }",
    "clip": ROW + "<float[16,10] w, float l> { t = MatMul(x, w) y = Clip(t, l) }",
    "conv, pool, flatten": IMAGE
    + "<float[10,16,1,1] w, float[10] b> { t = Conv(x, w, b) r = Relu(t) p = GlobalAveragePool(r) y = Flatten(p) }",
    "conv, pool, reshape": IMAGE
    + "<float[10,16,1,1] w, int64[2] s = {-1,10}> { t = Conv(x, w) p = GlobalAveragePool(t) y = Reshape(p, s) }",
    "conv, mean, squeeze": IMAGE + "<float[10,16,1,1] w, int64[1] a = {2}> { t = Conv(x, w) p = ReduceMean<axes=[3]>(t)"
    " q = ReduceMean<axes=[2]>(p) s = Squeeze(q) y = Identity(s) }",
}


def sliced(model, indices=KEEP):
    informed = with_value_info(model)
    graph = informed.graph()
    declined = run_passes([SliceHead(indices)], graph)
    return informed.with_graph(graph), [d.reason for d in declined]


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_the_kept_outputs_are_those_of_the_original(model_of, answers, text):
    model = model_of(text)
    after, reasons = sliced(model)
    onnx.checker.check_model(after.proto, full_check=True)
    x = np.random.default_rng(0).standard_normal(model.input.fixed(3)).astype(np.float32)
    assert not reasons
    assert np.allclose(answers(after, x)[0], answers(model, x)[0][:, KEEP], atol=1e-6)
    assert after.output.shape[-1] == len(KEEP)


def test_probabilities_are_those_among_the_kept_classes(model_of, answers):
    model = model_of(ROW + "<float[16,10] w> { t = MatMul(x, w) y = Softmax(t) }")
    after, _ = sliced(model)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    kept = answers(model, x)[0][:, KEEP]
    assert np.allclose(answers(after, x)[0], kept / kept.sum(1, keepdims=True), atol=1e-6)


def test_a_constant_that_others_read_is_cut_for_the_head_alone(model_of, answers):
    model = model_of(
        "(float[N,10] x) => (float[N,10] y) <float[10,10] w, float[10,10] v, float[10] b>"
        "{ s = Gemm(x, v, b) y = Gemm(s, w, b) }"
    )
    after, reasons = sliced(model)
    x = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    assert not reasons
    assert np.allclose(answers(after, x)[0], answers(model, x)[0][:, KEEP], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ROW + "<float[16,10] w> { t = MatMul(x, w) u = Relu(t) y = Mul(t, u) }", "no plain chain"),
        (
            ROW.replace("[N,10] y", "[1,1,N,10] y").replace("N,16", "10,16")
            + "<float[16,10] w, float[1,1,10,10] b> { t = MatMul(x, w) y = Add(t, b) }",
            "not understood",
        ),
        (
            "(float[N,16,2,5] x) => (float[N,100] y) <float[10,16,1,1] w> { t = Conv(x, w) y = Flatten(t) }",
            "does not hold the 10 rows",
        ),
        (
            "(float[N,16] x) => (float[N,10] y, float[N,10] z) <float[16,10] w> { y = MatMul(x, w) z = Softmax(y) }",
            "also read inside the graph",
        ),
        ("(float[N,16] x) => (float[N,5] y) <float[16,5] w> { y = MatMul(x, w) }", "has only 5 rows"),
    ],
)
def test_what_is_not_understood_is_declined_and_left_alone(model_of, text, reason):
    model = model_of(text)
    after, reasons = sliced(model)
    assert reason in reasons[0]
    before = {t.name: t.SerializeToString() for t in with_value_info(model).proto.graph.initializer}
    assert {t.name: t.SerializeToString() for t in after.proto.graph.initializer}.keys() == before.keys()
    assert after.output.shape == with_value_info(model).output.shape
