"""PlainFloats: 16 and 64 bit floats become float32 inside, the interface keeps its types."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.model import with_value_info
from crisp_onnx.passes import run_passes
from crisp_onnx.passes.drop_identity import DropIdentity
from crisp_onnx.passes.plain_floats import PlainFloats

KINDS = {"float16": np.float16, "double": np.float64}


def plain(model):
    informed = with_value_info(model)
    graph = informed.graph()
    declined = run_passes([PlainFloats()], graph)
    return with_value_info(informed.with_graph(graph)), declined


def stored_types(model):
    return {t.data_type for t in model.proto.graph.initializer}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_model_of_another_width_computes_in_float32_between_its_own_types(model_of, answers, kind):
    model = model_of(
        f"({kind}[N,6] x) => ({kind}[N,3] y) <{kind}[6,3] w, {kind}[3] b>"
        "{ t = MatMul(x, w) u = Add(t, b) y = Softmax(u) }"
    )
    after, declined = plain(model)
    assert stored_types(after) == {1} and not declined
    assert (after.input.dtype, after.outputs[0].dtype) == (KINDS[kind], KINDS[kind])
    kinds = {v.name: v.type.tensor_type.elem_type for v in after.proto.graph.value_info}
    assert set(kinds.values()) == {1}
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(KINDS[kind])
    one, other = answers(model, x)[0], answers(after, x)[0]
    assert one.dtype == other.dtype
    assert np.abs(one.astype(float) - other.astype(float)).max() < (2e-3 if kind == "float16" else 1e-6)


def test_bfloat16_weights_become_float32_bit_for_bit(model_of, answers):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <bfloat16[4] b> { c = Cast<to=16>(x) t = Add(c, b) y = Cast<to=1>(t) }"
    )
    after, _ = plain(model)
    assert stored_types(after) == {1}
    assert [a.i for node in after.proto.graph.node for a in node.attribute if a.name == "to"] == [1, 1]


def test_a_cast_at_the_border_stays_the_only_one(model_of, answers):
    model = model_of(
        "(float16[N,4] x) => (double[N,4] y) <float[4] b> { c = Cast<to=1>(x) t = Add(c, b) y = Cast<to=11>(t) }"
    )
    after, _ = plain(model)
    assert [node.op_type for node in after.proto.graph.node] == ["Cast", "Add", "Cast"]
    x = np.ones((2, 4), np.float16)
    assert np.array_equal(answers(after, x)[0], answers(model, x)[0])


def test_types_in_attributes_and_fills_follow(model_of, answers):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <int64[1] s = {4}>"
        "{ f = ConstantOfShape<value = float16[1] {16384}>(s) h = Cast<to=10>(x) t = Mul(h, f) e = EyeLike<dtype=10>(t)"
        " u = Add(t, e) y = Cast<to=1>(u) }"
    )
    after, _ = plain(model)
    x = np.ones((4, 4), np.float32)
    assert np.array_equal(answers(after, x)[0], answers(model, x)[0])
    graph = after.graph()
    run_passes([DropIdentity()], graph)
    assert [node.op for node in graph.nodes] == ["ConstantOfShape", "Mul", "EyeLike", "Add", "Cast"]


def test_an_output_that_is_read_inside_too_keeps_its_type(model_of, answers):
    model = model_of("(float16[N,4] x) => (float16[N,4] y, float16[N,4] z) { y = Relu(x) z = Neg(y) }")
    after, _ = plain(model)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float16)
    for one, other in zip(answers(model, x), answers(after, x), strict=True):
        assert one.dtype == other.dtype == np.float16
        assert np.array_equal(one, other)


def test_a_float32_model_is_left_alone(model_of):
    model = model_of("(float[N,4] x) => (int64[N,1] y) <float[4] b> { t = Add(x, b) y = ArgMax<axis=1>(t) }")
    assert PlainFloats().run(model.graph()).changed == 0


def test_foreign_operators_keep_the_types_that_they_have(model_of):
    model = model_of(
        "(float16[N,4] x) => (float16[N,4] y) { y = local.Odd(x) }",
        functions='<domain: "local", opset_import: ["" : 17]> Odd (a) => (b) { b = Relu(a) }',
    )
    _, declined = plain(model)
    assert [d.reason for d in declined] == ["Odd may need the types that the graph has"]
