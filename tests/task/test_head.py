"""Which output scores the classes, what its numbers are, and why another one does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from crisp_onnx.bridge import to_torch
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, tensor_shapes
from crisp_onnx.task import Outputs, layers_behind, read_outputs, task_of
from crisp_onnx.task.loss import logits_of

ModelOf = Callable[..., Model]
ROW = "(float[N,4] x) => (float[N,6] y) <float[4,6] w, float[6] b, float[4,4] v> "
IMAGE = "(float[N,4,2,2] x) => (float[N,6] y) <float[6,4,1,1] w> "
TWO = (
    "(float[N,4] x) => ({}) <float[4,4] v, float[4,6] w, float[4,6] u, float[4,3] t>"
    "{{ h = MatMul(x, v) r = Relu(h) {} }}"
)


def outputs_of(model: Model) -> Outputs:
    return read_outputs(model, tensor_shapes(model))


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        (ROW + "{ h = MatMul(x, v) [last] y = Gemm(h, w, b) }", "last"),
        (ROW + "{ [last] t = MatMul(x, w) u = Add(t, b) y = Softmax(u) }", "last"),
        (ROW + "{ [last] t = MatMul(x, w) u = Relu(t) y = Mul(t, u) }", "last"),
        (ROW + "{ [last] t = MatMul(x, w) s = Shape(t) u = Relu(t) y = Reshape(u, s) }", "last"),
        (IMAGE + "{ [last] t = Conv(x, w) p = GlobalAveragePool(t) y = Flatten(p) }", "last"),
        (
            IMAGE.replace("[N,6]", "[N,6,1,1]") + "{ [last] t = Conv(x, w) p = GlobalAveragePool(t) s = Shape(p)"
            " f = Flatten(p) q = Softmax(f) y = Reshape(q, s) }",
            "last",
        ),
        (IMAGE + "{ [last] t = Conv(x, w) u = Transpose<perm=[0,2,3,1]>(t) y = ReduceMean<axes=[1,2],keepdims=0>(u) }",
         "last"),
    ],
)  # fmt: skip
def test_the_classifier_is_the_layer_whose_rows_are_the_classes(model_of: ModelOf, text: str, layer: str) -> None:
    assert [head.classifier for head in outputs_of(model_of(text)).heads] == [(layer,)]


def test_without_a_layer_of_as_many_rows_there_is_no_classifier(model_of: ModelOf) -> None:
    model = model_of("(float[N,4] x) => (float[N,6] y) <float[4,2] w, int64[2] s> { t = MatMul(x, w) y = Tile(t, s) }",
                     s=[1, 3])  # fmt: skip
    (head,) = outputs_of(model).heads
    assert head.classifier == ()
    assert any("--head slice is not possible" in note for note in outputs_of(model).notes(head))


def test_two_layers_side_by_side_are_a_classifier_in_parts(model_of: ModelOf) -> None:
    model = model_of(
        "(float[N,4] x) => (float[N,6] y) <float[4,2] w, float[4,4] v>"
        "{ [a] s = MatMul(x, w) [b] t = MatMul(x, v) y = Concat<axis=1>(s, t) }"
    )
    assert set(outputs_of(model).heads[0].classifier) == {"a", "b"}


SCORES = "t = MatMul(x, w) "
LARGEST = "m = ReduceMax<axes=[-1]>(t) c = Sub(t, m) "
TAILS = {
    "logits": ("y = Identity(t)", "logits", "y", True),
    "relu": ("y = Relu(t)", "logits", "y", True),
    "softmax": ("y = Softmax(t)", "probabilities", "t", True),
    "moved": ("s = Softmax(t) y = Identity(s)", "probabilities", "t", True),
    "temperature": ("one = Constant<value=float {1.3}>() d = Div(t, one) y = Softmax(d)", "probabilities", "d", True),
    "scaled": ("k = Constant<value=float {100.0}>() s = Softmax(t) y = Mul(s, k)", "probabilities", "t", True),
    "log softmax": ("y = LogSoftmax(t)", "log-probabilities", "t", True),
    "log of softmax": ("s = Softmax(t) y = Log(s)", "log-probabilities", "t", True),
    "sigmoid": ("y = Sigmoid(t)", "probabilities", "t", False),
    "written out": (
        "e = Exp(t) a = Constant<value_ints=[1]>() s = ReduceSum(e, a) y = Div(e, s)", "probabilities", "t", True,
    ),
    "written out, shifted": (
        LARGEST + "e = Exp(c) a = Constant<value_ints=[-1]>() s = ReduceSum(e, a) y = Div(e, s)",
        "probabilities", "t", True,
    ),
    "written out, away from zero": (
        "k = Constant<value=float {0.000001}>() e = Exp(t) a = Constant<value_ints=[1]>() s = ReduceSum(e, a)"
        " z = Add(s, k) y = Div(e, z)", "probabilities", "t", True,
    ),
    "written out with a product": (
        "e = Exp(t) a = Constant<value_ints=[1]>() s = ReduceSum(e, a) r = Reciprocal(s) y = Mul(r, e)",
        "probabilities", "t", True,
    ),
    "log written out": ("l = ReduceLogSumExp<axes=[1]>(t) y = Sub(t, l)", "log-probabilities", "t", True),
    "log written out, shifted": (
        LARGEST + "e = Exp(c) a = Constant<value_ints=[1]>() s = ReduceSum(e, a) l = Log(s) y = Sub(c, l)",
        "log-probabilities", "t", True,
    ),
    "sigmoid written out": (
        "one = Constant<value=float {1.0}>() n = Neg(t) e = Exp(n) p = Add(e, one) y = Div(one, p)",
        "probabilities", "t", False,
    ),
    "reciprocal": (
        "one = Constant<value=float {1.0}>() n = Neg(t) e = Exp(n) p = Add(one, e) y = Reciprocal(p)",
        "probabilities", "t", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tail", "form", "logits", "exclusive"), TAILS.values(), ids=TAILS.keys())
def test_what_the_numbers_are_is_read_from_the_graph(
    model_of: ModelOf, answers: Callable[..., list[np.ndarray]], tail: str, form: str, logits: str, exclusive: bool
) -> None:
    model = model_of(ROW.replace("N,6", "N,C") + "{ " + SCORES + tail + " }")
    (head,) = outputs_of(_folded(model)).heads
    assert (head.form, head.logits, head.exclusive) == (form, logits, exclusive)
    # The tensor that training reads gives the file's numbers, whatever way they are written.
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    with torch.no_grad():
        found = logits_of(to_torch(model, head.trained)(torch.from_numpy(x)), task_of(head, (0,)))
    shares = found.softmax(1) if exclusive else found.sigmoid()
    expected = {"logits": found, "probabilities": shares, "log-probabilities": shares.log()}[form].numpy()
    scale = 100 if "100.0" in tail else 1
    np.testing.assert_allclose(answers(model, x)[0], scale * expected, rtol=1e-4, atol=1e-5)


def _folded(model: Model) -> Model:
    from crisp_onnx.passes import SIMPLIFY, run_passes

    graph = model.graph()
    run_passes(SIMPLIFY, graph)
    return model.with_graph(graph)


def test_a_mean_of_shares_is_read_as_it_is(model_of: ModelOf) -> None:
    model = model_of(IMAGE + "{ t = Conv(x, w) s = Softmax<axis=1>(t) p = GlobalAveragePool(s) y = Flatten(p) }")
    (head,) = outputs_of(model).heads
    assert (head.logits, head.form, head.logits_form) == ("y", "probabilities", "probabilities")


REFUSED = {
    "labels": ("(int64[N] y)", "t = MatMul(x, w) y = ArgMax<axis=1, keepdims=0>(t)", "number of the best class"),
    "kept axis": ("(int64[N,1] y)", "t = MatMul(x, w) y = ArgMax<axis=1>(t)", "the scores are in the tensor 't'"),
    "labels as numbers": ("(float[N,1] y)", "t = MatMul(x, w) a = ArgMax<axis=1>(t) y = Cast<to=1>(a)", "ArgMax"),
    "sorted": (
        "(float[N,K] y, int64[N,K] z)", "t = MatMul(x, w) k = Constant<value_ints=[2]>() y, z = TopK(t, k)",
        "a column of 'y' is a place and not a class.*'z' holds int64 values",
    ),
    "one number": ("(float[N,1] y)", "t = MatMul(x, one) y = Sigmoid(t)", "a single number an image"),
    "a map": ("(float[N,6,4,4] y)", "t = MatMul(x, w) a = Constant<value_ints=[0,6,1,1]>() r = Reshape(t, a)"
              " k = Constant<value_ints=[1,1,4,4]>() y = Tile(r, k)", "the shape .*, which is not one row of class"),
    "whole numbers": ("(int32[N,6] y)", "t = MatMul(x, w) y = Cast<to=6>(t)", "int32 values and not scores"),
    "softmax over the batch": ("(float[N,6] y)", "t = MatMul(x, w) y = Softmax<axis=0>(t)", "does not add up over"),
    "softmax over an axis of one": (
        "(float[N,6,1] y)", "t = MatMul(x, w) a = Constant<value_ints=[2]>() u = Unsqueeze(t, a) y = Softmax(u)",
        "does not add up over the classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("declared", "body", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_judged_is_refused_with_its_reason(
    model_of: ModelOf, declared: str, body: str, reason: str
) -> None:
    found = outputs_of(model_of(f"(float[N,4] x) => {declared} <float[4,6] w, float[4,1] one> {{ {body} }}"))
    assert not found.heads
    with pytest.raises(CrispError, match=f"net.onnx cannot be judged by classes: .*{reason}"):
        found.chosen((), "net.onnx")
    with pytest.raises(CrispError, match=r"Output 'y' of net\.onnx cannot be judged"):
        found.chosen(("y",), "net.onnx")


def test_a_batch_as_long_as_the_classes_is_no_class_axis(model_of: ModelOf) -> None:
    body = "{ [last] t = MatMul(x, w) y = Softmax<axis=%d>(t) }"
    text = "(float[6,4] x) => (float[6,6] y) <float[4,6] w> " + body
    assert outputs_of(model_of(text % 1)).heads[0].classifier == ("last",)
    assert "does not add up" in outputs_of(model_of(text % 0)).others["y"]


@pytest.mark.parametrize(
    ("shape", "classes"),
    [("float[N,6]", 6), ("float[N,6,1,1]", 6), ("float[N,1,1,6]", 6), ("float[N,1,6]", 6)],
)
def test_a_row_may_have_axes_of_one_around_it(model_of: ModelOf, shape: str, classes: int) -> None:
    sides = [int(side) if side != "N" else -1 for side in shape[6:-1].split(",")]
    model = model_of(
        f"(float[N,4] x) => ({shape} y) <float[4,6] w, int64[{len(sides)}] s> {{ t = MatMul(x, w) y = Reshape(t, s) }}",
        s=sides,
    )
    assert outputs_of(model).heads[0].classes == classes


def test_features_are_told_from_the_scores_that_are_made_of_them(model_of: ModelOf) -> None:
    for order in ("float[N,4] f, float[N,6] y", "float[N,6] y, float[N,4] f"):
        found = outputs_of(model_of(TWO.format(order, "f = Identity(r) [last] y = MatMul(r, w)")))
        assert [head.output for head in found.heads] == ["y"]
        assert [head.output for head in found.features] == ["f"]
        assert found.chosen((), "net.onnx").classifier == ("last",)
        assert "'f' holds the features" in " ".join(found.notes(found.heads[0]))
        assert found.chosen(("f",), "net.onnx").output == "f"


def test_of_logits_and_probabilities_of_one_classifier_the_logits_are_read(model_of: ModelOf) -> None:
    text = TWO.format(
        "float[N,6] p, float[N,6] y, int64[N,1] l", "y = MatMul(r, w) p = Softmax(y) l = ArgMax<axis=1>(p)"
    )
    found = outputs_of(model_of(text))
    assert found.chosen((), "net.onnx").output == "y"
    assert found.chosen(("p",), "net.onnx").form == "probabilities"
    notes = " ".join(found.notes(found.chosen((), "net.onnx")))
    assert "judged by output 'y' (6 classes, logits)" in notes
    assert "'p' (6 classes, probabilities)" in notes
    assert "--output-name" in notes


@pytest.mark.parametrize(
    ("declared", "other"), [("float[N,6] a, float[N,6] b", "u"), ("float[N,6] a, float[N,3] b", "t")]
)
def test_of_two_classifiers_none_is_guessed(model_of: ModelOf, declared: str, other: str) -> None:
    found = outputs_of(model_of(TWO.format(declared, f"[one] a = MatMul(r, w) [two] b = MatMul(r, {other})")))
    with pytest.raises(CrispError, match=r"several outputs that may score the classes: 'a' .* and 'b' .*--output-name"):
        found.chosen((), "net.onnx")
    assert found.chosen(("b",), "net.onnx").classifier == ("two",)
    with pytest.raises(CrispError, match="no output 'c'; it has 'a', 'b'"):
        found.chosen(("c",), "net.onnx")


def test_outputs_named_behind_the_first_stand_beside_it(model_of: ModelOf) -> None:
    model = model_of(
        TWO.format(
            "float[N,6] a, float[N,6] b, float[N,6] p",
            "[one] a = MatMul(r, w) [two] b = MatMul(r, u) p = Softmax(b)",
        )
    )
    found = outputs_of(model)
    head = found.chosen(("b", "a", "p"), "net.onnx")
    assert head.trained == ("b", "a")  # p says what b does
    assert task_of(head, (0, 1)).beside == (task_of(found.chosen(("a",), "net.onnx"), tuple(range(6))),)
    notes = " ".join(found.notes(head))
    assert "untouched model answers in 'a' (6 classes, logits) counts too" in notes
    assert layers_behind(model.graph(), head.trained) >= {"one", "two"}
    assert to_torch(model, head.trained).output_names == ("b", "a")


def test_only_what_the_logits_need_lies_behind_them(model_of: ModelOf) -> None:
    model = model_of(TWO.format("float[N,6] a, float[N,6] b", "[one] a = MatMul(r, w) [two] b = MatMul(r, u)"))
    behind = layers_behind(model.graph(), ("b",))
    assert "two" in behind
    assert "one" not in behind
    module = to_torch(model, ("b",))
    assert {name for name, _ in module.named_parameters()} == {"v", "u"}


def test_an_output_that_is_no_tensor_is_no_row_of_scores(model_of: ModelOf) -> None:
    model = model_of("(float[N,4] x) => (float[N,6] y) <float[4,6] w> { y = MatMul(x, w) }")
    model.proto.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["s"], name="s"))
    model.proto.graph.output.append(
        helper.make_value_info(
            "s", helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        )
    )
    found = outputs_of(model)
    assert [head.output for head in found.heads] == ["y"]
    assert "s" in found.others


@pytest.mark.parametrize(
    ("first", "then", "form", "logits"),
    [
        ("Softmax", ["Log", "Exp"] * 2_000, "probabilities", "l"),
        ("LogSoftmax", ["Exp", "Log"] * 2_000, "log-probabilities", "l"),
        ("Softmax", ["Log", "Exp", "Log"], "log-probabilities", "l"),
        ("Identity", ["Exp", "Log"] * 2_000, "logits", "y"),
        ("Softmax", ["Log", "Log"], "logits", "y"),
        ("Softmax", ["Exp"], "logits", "y"),
    ],
)
def test_logarithms_and_exponentials_are_followed_however_many_there_are(first, then, form, logits) -> None:
    ops, value = ["Identity", first, *then], helper.make_tensor_value_info
    names = ["x", "l", *(f"t{place}" for place in range(len(ops) - 2)), "y"]
    nodes = [helper.make_node(op, [names[at]], [names[at + 1]]) for at, op in enumerate(ops)]
    row = [1, 6]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, row)], [value("y", TensorProto.FLOAT, row)])
    model = Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), Path("m.onnx"), "0" * 64)
    (head,) = read_outputs(model, dict.fromkeys(names, (1, 6))).heads
    assert (head.form, head.logits) == (form, logits)
