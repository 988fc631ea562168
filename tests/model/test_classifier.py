"""The classifier: the last weight layer behind a plain chain of operators that keep one channel a class."""

from __future__ import annotations

import pytest

from crisp_onnx.model import classifier_chain
from crisp_onnx.model.classifier import ends_in_softmax

ROW = "(float[N,4] x) => (float[N,C] y) <float[4,6] w, float[6] b, float[4,4] v> "
IMAGE = "(float[N,4,2,2] x) => (float[N,6,H,W] y) <float[6,4,1,1] w> "
FLAT = IMAGE.replace("[N,6,H,W]", "[N,6]")


def chain(model_of, text):
    return [node.op for node in classifier_chain(model_of(text).graph())]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ROW + "{ h = MatMul(x, v) y = Gemm(h, w, b) }", ["Gemm"]),
        (ROW + "{ t = MatMul(x, w) u = Add(t, b) y = Softmax(u) }", ["MatMul", "Add", "Softmax"]),
        (FLAT + "{ t = Conv(x, w) p = GlobalAveragePool(t) y = Flatten(p) }", ["Conv", "GlobalAveragePool", "Flatten"]),
        (
            IMAGE + "{ t = Conv(x, w) p = GlobalAveragePool(t) s = Shape(p) f = Flatten(p)"
            " q = Softmax(f) y = Reshape(q, s) }",
            ["Conv", "GlobalAveragePool", "Flatten", "Softmax", "Reshape"],
        ),
        (ROW + "{ t = MatMul(x, w) u = Relu(t) y = Mul(t, u) }", []),
        (ROW + "{ t = MatMul(x, w) u = Relu(t) y = Add(t, u) }", []),
        (ROW + "{ t = MatMul(x, w) s = Shape(t) c = Cast<to=1>(s) m = ReduceMean<keepdims=0>(c) y = Add(t, m) }", []),
        ("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }", []),
        ("(float[4,4] x) => (float[4,4] y) { t = Relu(x) y = MatMul(x, t) }", []),
    ],
)  # fmt: skip
def test_the_chain_is_found_or_there_is_none(model_of, text, found):
    assert chain(model_of, text) == found


def test_a_shape_that_reaches_beyond_the_chain_breaks_it(model_of):
    text = (
        "(float[N,4] x) => (float[N,6] y, int64[2] z) <float[4,6] w>"
        "{ t = MatMul(x, w) s = Shape(t) f = Relu(t) y = Reshape(f, s) z = Identity(s) }"
    )
    assert chain(model_of, text) == []


@pytest.mark.parametrize(
    ("tail", "probabilities"),
    [
        ("y = Softmax(t)", True),
        ("s = Softmax(t) y = Identity(s)", True),
        ("y = Relu(t)", False),
        ("s = Softmax(t) y = Relu(s)", False),
        ("y = LogSoftmax(t)", False),
    ],
)
def test_probabilities_are_told_from_logits(model_of, tail, probabilities):
    assert ends_in_softmax(model_of(ROW + "{ t = MatMul(x, w) " + tail + " }").graph()) == probabilities
