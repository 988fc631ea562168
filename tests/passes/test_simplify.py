"""FoldConstants, DropIdentity and ExplicitPads: the same answers from a plainer graph."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch.nn import functional

from crisp_onnx.model import spec
from crisp_onnx.passes.drop_identity import DropIdentity
from crisp_onnx.passes.explicit_pads import ExplicitPads
from crisp_onnx.passes.fold_constants import FoldConstants
from crisp_onnx.passes.plain_pools import PlainPools


def initializers(after):
    return {t.name for t in after.model.proto.graph.initializer}


@pytest.mark.parametrize(
    "hidden",
    [
        "wt = Transpose<perm=[1,0]>(w)",
        "wt = Identity(w)",
        "s = Constant<value = int64[2] {4,4}>() wt = Reshape(w, s)",
        "q = Cast<to=3>(w) wt = DequantizeLinear(q, scale)",
        "s = Constant<value = int64[2] {4,4}>() wt = ConstantOfShape<value = float[1] {0.5}>(s)",
        "a = Identity(w) b = Transpose<perm=[1,0]>(a) wt = Identity(b)",
    ],
    ids=["transpose", "identity", "reshape", "dequantize", "constant-of-shape", "chain"],
)
def test_a_hidden_weight_becomes_an_initializer_under_the_name_that_is_read(model_of, rewrite, hidden):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <float[4,4] w, float scale> { " + hidden + " y = MatMul(x, wt) }", scale=0.25
    )
    after = rewrite(model, [FoldConstants()])
    assert after.counts == {"MatMul": 1}
    assert initializers(after) == {"wt"}


def test_a_computed_node_stays(model_of, rewrite):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <float[4,4] w> { t = Transpose<perm=[1,0]>(x) y = MatMul(x, w) }"
    )
    assert "MatMul" in rewrite(model, [FoldConstants()]).counts


def test_random_numbers_are_not_frozen(model_of):
    model = model_of("(float[2,4] x) => (float[2,4] y) { r = RandomNormal<shape=[2,4]>() y = Add(x, r) }")
    graph = model.graph()
    assert FoldConstants().run(graph).changed == 0
    assert [node.op for node in graph.nodes] == ["RandomNormal", "Add"]


def test_a_constant_that_is_a_graph_output_keeps_its_node(model_of, rewrite):
    model = model_of("(float[N,4] x) => (float[N,4] y, float[4] z) <float[4] w> { y = Relu(x) z = Identity(w) }")
    assert rewrite(model, [FoldConstants()]).counts == {"Relu": 1, "Identity": 1}


def test_a_node_that_the_runtime_cannot_compute_is_declined(model_of):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <float[4] w> { v = local.Twice(w) y = Add(x, v) }",
        functions='<domain: "local", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }',
    )
    result = FoldConstants().run(model.graph())
    assert result.changed == 0
    assert result.declined[0].reason == "the size of its result cannot be told ahead"


def test_identity_and_dropout_go_and_their_readers_read_the_source(model_of, rewrite):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <float ratio = {0.5}>"
        "{ a = Identity(x) b = Dropout(a, ratio) c = Identity(b) d = Mul(c, b) y = Add(d, a) }"
    )
    assert rewrite(model, [DropIdentity()]).counts == {"Mul": 1, "Add": 1}


@pytest.mark.parametrize("reads", ["{a}", "{a}, {a}"])
def test_many_idle_nodes_beside_each_other_go_without_a_search_for_each(model_of, rewrite, monkeypatch, reads):
    names = [f"a{number}" for number in range(100)]
    idle = " ".join(f"{name} = Identity(x)" for name in names)
    wide = ", ".join(reads.format(a=name) for name in names)
    model = model_of("(float[N,4] x) => (float[N,4] y) {" + idle + f" y = Mean({wide})" + "}")
    compare, compared = gs.Node.__eq__, []
    monkeypatch.setattr(spec, "compare_by_identity", lambda graph: None)
    monkeypatch.setattr(gs.Node, "__eq__", lambda one, other: compared.append(1) or compare(one, other))
    assert rewrite(model, [DropIdentity()]).counts == {"Mean": 1}
    assert len(compared) < 10 * len(names)


def test_nodes_are_found_among_thousands_of_readers_without_a_look_at_what_they_hold(model_of, rewrite, monkeypatch):
    kept = " ".join(f"b{number} = Relu(x)" for number in range(100))
    idle = " ".join(f"a{number} = Identity(x)" for number in range(100))
    wide = ", ".join(f"{letter}{number}" for letter in "ab" for number in range(100))
    model = model_of("(float[N,4] x) => (float[N,4] y) {" + kept + idle + f" y = Mean({wide})" + "}")
    monkeypatch.setattr(gs.Node, "__eq__", lambda one, other: pytest.fail("nodes were compared by all that they hold"))
    assert rewrite(model, [DropIdentity()]).counts == {"Relu": 100, "Mean": 1}


def test_an_identity_that_writes_a_graph_output_keeps_the_name(model_of, rewrite):
    after = rewrite(model_of("(float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Identity(a) }"), [DropIdentity()])
    assert after.counts == {"Relu": 1, "Identity": 1}
    assert after.reasons == ["it writes a graph output"]


@pytest.mark.parametrize("use", ["c = Not(m)", "c = Identity(m)"])
def test_a_dropout_whose_mask_is_read_stays(model_of, rewrite, use):
    model = model_of("(float[N,4] x) => (float[N,4] y, bool[N,4] c) { y0, m = Dropout(x) y = Relu(y0) " + use + " }")
    after = rewrite(model, [DropIdentity()])
    assert after.counts["Dropout"] == 1
    assert "its mask output is used" in after.reasons


def test_a_dropout_whose_mask_is_a_graph_output_stays(model_of, rewrite):
    model = model_of("(float[N,4] x) => (float[N,4] y, bool[N,4] m) { y0, m = Dropout(x) y = Relu(y0) }")
    assert rewrite(model, [DropIdentity()]).reasons == ["its mask output is used"]


def test_a_dropout_that_trains_at_inference_stays(model_of):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <float r = {0.5}, bool t = {1}> { a = Dropout(x, r, t) y = Relu(a) }"
    )
    result = DropIdentity().run(model.graph())
    assert result.changed == 0
    assert "training_mode" in result.declined[0].reason


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("strides", ["1,1", "2,2", "3,2"])
@pytest.mark.parametrize("window", ["3,3", "4,2", "5,1"])
def test_auto_pad_becomes_the_padding_that_the_runtime_uses(model_of, rewrite, mode, strides, window):
    model = model_of(
        f"(float[N,3,11,8] x) => (float[N,4,H,W] y) <float[4,3,{window}] w>"
        f'{{ y = Conv<auto_pad="{mode}", strides=[{strides}]>(x, w) }}'
    )
    after = rewrite(model, [ExplicitPads()])
    assert "auto_pad" not in after.graph.nodes[0].attrs
    assert not after.declined


def test_dilation_counts_in_the_padding(model_of, answers):
    # ONNX Runtime refuses auto_pad with dilation, so torch is the judge here.
    model = model_of(
        "(float[N,3,11,9] x) => (float[N,4,11,9] y) <float[4,3,3,3] w>"
        '{ y = Conv<auto_pad="SAME_UPPER", dilations=[2,3]>(x, w) }'
    )
    graph = model.graph()
    assert ExplicitPads().run(graph).changed == 1
    x = np.random.default_rng(0).standard_normal((2, 3, 11, 9)).astype(np.float32)
    weight = torch.from_numpy(graph.nodes[0].inputs[1].values.copy())
    expected = functional.conv2d(torch.from_numpy(x), weight, padding="same", dilation=(2, 3))
    assert np.allclose(answers(model.with_graph(graph), x)[0], expected, atol=1e-5)


def test_open_sides_are_declined_for_same_but_not_for_valid(model_of, rewrite):
    model = model_of(
        "(float[N,3,H,W] x) => (float[N,4,P,Q] y) <float[4,3,3,3] w, float[4,4,3,3] v>"
        '{ t = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) y = Conv<auto_pad="VALID">(t, v) }'
    )
    after = rewrite(model, [ExplicitPads()])
    assert after.reasons == ["auto_pad=SAME_UPPER and the input's size is unknown"]
    assert [node.attrs.get("auto_pad") for node in after.graph.nodes] == ["SAME_UPPER", None]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("window", ["3,3", "4,2"])
def test_open_sides_do_not_matter_to_a_stride_of_one(model_of, rewrite, mode, window):
    model = model_of(
        f'(float[N,3,H,W] x) => (float[N,4,H,W] y) <float[4,3,{window}] w> {{ y = Conv<auto_pad="{mode}">(x, w) }}'
    )
    x = np.random.default_rng(0).standard_normal((1, 3, 7, 12)).astype(np.float32)
    assert "pads" in rewrite(model, [ExplicitPads()], x=x).graph.nodes[0].attrs


def test_a_computed_window_is_left_alone(model_of):
    model = model_of('(float[3,3,3,3] x) => (float[3,3,3,3] y) { w = Relu(x) y = Conv<auto_pad="SAME_UPPER">(x, w) }')
    assert ExplicitPads().run(model.graph()).changed == 0


@pytest.mark.parametrize(("steps", "plain"), [("[1,1]", True), ("[2,2]", False), ("[1,2]", False)])
def test_a_pool_whose_places_lie_side_by_side_says_nothing_of_their_steps(model_of, answers, steps, plain):
    text = f"(float[N,3,8,8] x) => (float[N,3,A,B] y) {{ y = AveragePool<kernel_shape=[3,3], dilations={steps}>(x) }}"
    model = model_of(text, opset=19)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    before = answers(model, x)[0]
    graph = model.graph()
    assert PlainPools().run(graph).changed == plain
    after = model.with_graph(graph)
    assert ("dilations" in graph.nodes[0].attrs) != plain
    assert np.array_equal(answers(after, x)[0], before)
