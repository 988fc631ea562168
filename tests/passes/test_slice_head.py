"""SliceHead: the outputs that stay are the columns of the original's, in the order of the class list."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from crisp_onnx.model import tensor_shapes, with_value_info
from crisp_onnx.passes import SliceHead, run_passes
from crisp_onnx.task import read_outputs

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


def sliced(model, indices=KEEP, output=None):
    informed = with_value_info(model)
    graph, shapes = informed.graph(), tensor_shapes(informed)
    head = read_outputs(informed, shapes).chosen(() if output is None else (output,), "net.onnx")
    declined = run_passes([SliceHead(head, indices, shapes)], graph)
    return informed.with_graph(graph), [d.reason for d in declined]


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_the_kept_outputs_are_those_of_the_original(model_of, answers, text):
    model = model_of(text)
    after, reasons = sliced(model)
    onnx.checker.check_model(after.proto, full_check=True)
    x = np.random.default_rng(0).standard_normal(model.input.fixed(3)).astype(np.float32)
    assert not reasons
    assert np.allclose(answers(after, x)[0], answers(model, x)[0][:, KEEP], atol=1e-6)
    assert after.outputs[0].shape[-1] == len(KEEP)


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


TWO = "(float[N,16] x) => ({}) <float[16,10] w, float[10,3] u, float[16,10] v, float[10] b, int64[1] k> {{ {} }}"
BRANCHES = {
    "gated": ("float[N,10] y", "y = MatMul(x, w) r = Relu(y) z = Mul(y, r)", None),
    "logits and shares": ("float[N,10] y, float[N,10] z", "y = MatMul(x, w) s = Add(y, b) z = Relu(s)", None),
    "another classifier": ("float[N,10] z, float[N,10] y", "y = MatMul(x, w) z = MatMul(x, v)", "y"),
    "scaled by class": ("float[N,10] y", "t = MatMul(x, w) y = Mul(b, t)", None),
}


@pytest.mark.parametrize(("declared", "body", "output"), BRANCHES.values(), ids=BRANCHES.keys())
def test_every_branch_behind_the_classifier_is_cut_and_no_other(model_of, answers, declared, body, output):
    model = model_of(TWO.format(declared, body))
    after, reasons = sliced(model, output=output)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    assert not reasons
    for spec, one, other in zip(model.outputs, answers(after, x), answers(model, x), strict=True):
        cut = spec.name == "y" or output is None
        assert np.allclose(one, other[:, KEEP] if cut else other, atol=1e-6)


def test_a_softmax_that_is_written_out_adds_up_to_one_again(model_of, answers):
    body = "t = MatMul(x, w) m = ReduceMax<axes=[1]>(t) c = Sub(t, m) e = Exp(c) s = ReduceSum(e, k) y = Div(e, s)"
    model = model_of(TWO.format("float[N,10] y", body), k=[1])
    after, reasons = sliced(model)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    kept = answers(model, x)[0][:, KEEP]
    assert not reasons
    assert np.allclose(answers(after, x)[0], kept / kept.sum(1, keepdims=True), atol=1e-6)


def test_the_best_class_behind_the_scores_is_a_place_in_the_class_list(model_of, answers):
    model = model_of(TWO.format("float[N,10] y, int64[N] z", "y = MatMul(x, w) z = ArgMax<axis=1, keepdims=0>(y)"))
    after, reasons = sliced(model)
    x = np.random.default_rng(0).standard_normal((7, 16)).astype(np.float32)
    assert not reasons
    assert np.array_equal(answers(after, x)[1], answers(model, x)[0][:, KEEP].argmax(1))


@pytest.mark.parametrize("tail", ["y = Flatten(p)", "y = Reshape(p, s)", "y = Squeeze(p, a)"])
def test_a_batch_as_long_as_the_classes_stays(model_of, answers, tail):
    model = model_of(
        "(float[10,16,4,4] x) => (float[10,10] y) <float[10,16,1,1] w, int64[2] s, int64[2] a>"
        f"{{ t = Conv(x, w) p = GlobalAveragePool(t) {tail} }}",
        s=[10, 10],
        a=[2, 3],
    )
    after, reasons = sliced(model)
    onnx.checker.check_model(after.proto, full_check=True)
    x = np.random.default_rng(0).standard_normal((10, 16, 4, 4)).astype(np.float32)
    assert not reasons
    assert after.outputs[0].shape == (10, len(KEEP))
    assert np.allclose(answers(after, x)[0], answers(model, x)[0][:, KEEP], atol=1e-6)


def test_channels_last_are_followed(model_of, answers):
    model = model_of(
        "(float[N,16,4,4] x) => (float[N,1,1,10] y) <float[10,16,1,1] w>"
        "{ t = Conv(x, w) p = GlobalAveragePool(t) u = Transpose<perm=[0,2,3,1]>(p) y = Softmax(u) }"
    )
    after, reasons = sliced(model)
    x = np.random.default_rng(0).standard_normal((3, 16, 4, 4)).astype(np.float32)
    kept = answers(model, x)[0][..., KEEP]
    assert not reasons
    assert np.allclose(answers(after, x)[0], kept / kept.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "(float[N,16] x) => (float[N,10] y) <float[16,10] w, float[1,10] b, int64[2] s>"
            "{ t = MatMul(x, w) a = Constant<value_int=1>() u = CumSum(t, a) y = Add(u, b) }",
            "what CumSum makes of the classes is not understood",
        ),
        (
            "(float[N,16] x) => (float[N,10] y) <float[16,5] w, int64[2] s> { t = MatMul(x, w) y = Tile(t, s) }",
            "no layer was found whose rows are the classes",
        ),
        (
            TWO.format("float[N,10] y, float[N,3] z", "y = MatMul(x, w) z = MatMul(y, u)"),
            "what MatMul makes of the classes is not understood",
        ),
        (
            TWO.format("float[N,10] y, float[N,K] s, int64[N,K] i", "y = MatMul(x, w) s, i = TopK(y, k)"),
            "what TopK makes of the classes",
        ),
        ("(float[N,16] x) => (float[N,5] y) <float[16,5] w> { y = MatMul(x, w) }", "class 7 is not one of its 5"),
        (
            "(float[N,4] x) => (float[N,10] y) <float[4,6] w, float[4,4] v>"
            "{ s = MatMul(x, w) t = MatMul(x, v) y = Concat<axis=1>(s, t) }",
            "it has 6 rows, the output 10 columns",
        ),
    ],
)
def test_what_is_not_understood_is_declined_and_left_alone(model_of, text, reason):
    model = model_of(text, s=[1, 2], k=[5])
    after, reasons = sliced(model, output="y")
    assert reason in reasons[0]
    before = {t.name: t.SerializeToString() for t in with_value_info(model).proto.graph.initializer}
    kept = {t.name: t.SerializeToString() for t in after.proto.graph.initializer}
    assert kept.items() <= before.items()
    assert {"w"} <= kept.keys()
    assert after.outputs == with_value_info(model).outputs
