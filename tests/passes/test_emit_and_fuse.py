"""EmitHybrid and the passes that fuse bias, residual and activation into hybrid operators."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from crisp_onnx.format import Pattern
from crisp_onnx.masks import Plan
from crisp_onnx.passes import ApplyMasks, dense_passes, hybrid_passes
from crisp_onnx.passes.emit_hybrid import EmitHybrid
from crisp_onnx.passes.fuse_activation import FuseActivation
from crisp_onnx.passes.fuse_bias import FuseBias
from crisp_onnx.passes.fuse_residual import FuseResidual

STEM = "h = Conv<pads=[1,1,1,1]>(x, stem)"
STORED = "float[16,3,3,3] stem, float[16,16,3,3] w, float[16] b"
HEAD = "(float[N,3,8,8] x) => (float[N,16,8,8] y) "
FUSE = (FuseBias(), FuseResidual(), FuseActivation())


@pytest.fixture
def fused(model_of, rewrite, plan_of):
    """Text of a model -> the masked model after emission and the passes `then`, which must not change its answers."""

    def run(text, then=FUSE, *, opset=17, shapes=True, **values):
        model = model_of(text, opset=opset, **values)
        plan = plan_of(model)
        assert any(True for _ in plan.sparse())
        masked = model.graph()
        ApplyMasks(plan).run(masked)
        masked_model = model.with_graph(masked)
        return rewrite(masked_model, (EmitHybrid(plan), *then), reference=masked_model, shapes=shapes)

    return run


def test_masks_make_zeros_and_touch_nothing_else(model_of, plan_of):
    model = model_of(HEAD + f"<{STORED}> {{ {STEM} y = Conv<pads=[1,1,1,1]>(h, w, b) }}")
    plan, graph = plan_of(model), model.graph()
    before = {t.name: t.values.copy() for t in graph.tensors().values() if hasattr(t, "values")}
    ApplyMasks(plan).run(graph)
    sparse = next(plan.sparse())
    after = graph.tensors()
    assert np.array_equal(after["w"].values, np.where(sparse.mask, before["w"], 0))
    assert np.count_nonzero(after["w"].values) == sparse.kept_weights
    assert np.array_equal(after["stem"].values, before["stem"])


@pytest.mark.parametrize("attrs", ["", "strides=[2,1], ", "dilations=[2,2], "])
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_sparse_convolution_becomes_a_hybrid_operator(fused, attrs, opset):
    after = fused(
        f"(float[N,3,8,8] x) => (float[N,16,P,Q] y) <{STORED}>"
        f"{{ {STEM} [c] y = Conv<{attrs}pads=[1,0,2,1]>(h, w, b) }}",
        then=(),
        opset=opset,
    )
    assert after.counts == {"Conv": 1, "HybridConv": 1}
    node = after.graph.nodes[1]
    assert (node.name, node.domain) == ("c", "pkg.crisp_onnx")
    assert [i.name for i in node.inputs] == ["h", "w.values", "w.indices", "w.blocks", "b"]


@pytest.mark.parametrize("bias", ["", ", c", ", d", ", e"], ids=["none", "row", "1 x row", "scalar"])
@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_and_matmul_become_hybrid_in_either_layout(fused, bias, trans):
    after = fused(
        "(float[N,32] x) => (float[N,24] y)"
        f"<float[{'24,32' if trans else '32,24'}] w, float[24,24] v, float[24] c, float[1,24] d, float e>"
        f"{{ g = Gemm<transB={trans}>(x, w{bias}) y = MatMul(g, v) }}"
    )
    assert after.counts == {"HybridGemm": 2}
    assert not after.declined


def test_a_computed_bias_keeps_a_layer_dense_from_the_start(model_of, plan_of):
    model = model_of(
        "(float[1,24] x) => (float[1,24] y) <float[24,24] w, float[24,24] v>"
        "{ b = Relu(x) t = Gemm(x, w, b) y = MatMul(t, v) }"
    )
    plan = plan_of(model)
    assert plan.layers[0].reason == "bias 'b' is computed, not stored"
    assert [sparse.layer.weight for sparse in plan.sparse()] == ["v"]


def test_a_bias_per_image_keeps_a_layer_dense(model_of, plan_of):
    model = model_of(
        "(float[24,24] x) => (float[24,24] y) <float[24,24] w, float[24,1] b, float[24,24] v>"
        "{ t = Gemm(x, w, b) y = MatMul(t, v) }"
    )
    assert plan_of(model).layers[0].reason == "bias 'b' (24, 1) is not one number per output"


def test_emission_declines_a_computed_bias_all_the_same(model_of, plan_of):
    text = "(float[1,24] x) => (float[1,24] y) <float[24,24] w, float[24] c> {{ b = Relu(x) y = Gemm(x, w, {}) }}"
    plan = plan_of(model_of(text.format("c")))
    graph = model_of(text.format("b")).graph()
    result = EmitHybrid(Plan(tuple(replace(item) for item in plan.layers))).run(graph)
    assert [d.reason for d in result.declined] == ["its bias is computed, not stored"]
    assert [node.op for node in graph.nodes] == ["Relu", "Gemm"]


@pytest.mark.parametrize("shape", ["16,1,1", "1,16,1,1", "1", "1,1"])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_an_add_per_channel_becomes_the_bias_of_a_convolution(fused, shape, bias):
    after = fused(
        HEAD + f"<{STORED}, float[{shape}] a> {{ {STEM} t = Conv<pads=[1,1,1,1]>(h, w{bias}) y = Add(a, t) }}"
    )
    assert after.counts == {"Conv": 1, "HybridConv": 1}


@pytest.mark.parametrize("shape", ["16,8,8", "8", "1,16", "16,8,1"])
def test_an_add_along_other_axes_is_declined(fused, shape):
    text = HEAD + f"<{STORED}, float[{shape}] a> {{ {STEM} t = Conv<pads=[1,1,1,1]>(h, w, b) y = Add(t, a) }}"
    if shape == "1,16":
        text = text.replace("3,8,8]", "3,8,16]").replace("16,8,8] y", "16,8,16] y")
    after = fused(text)
    assert after.counts["Add"] == 1
    assert "not one value per channel" in after.reasons[0]


@pytest.mark.parametrize("shape", ["24", "1,24", "1"])
def test_an_add_per_output_becomes_the_bias_of_a_matrix_product(fused, shape):
    after = fused(
        f"(float[N,5,32] x) => (float[N,5,24] y) <float[32,24] w, float[{shape}] a>{{ t = MatMul(x, w) y = Add(t, a) }}"
    )
    assert after.counts == {"HybridGemm": 1}


def test_a_constant_that_adds_an_axis_is_declined(fused):
    after = fused(
        "(float[N,32] x) => (float[1,N,24] y) <float[32,24] w, float[1,1,24] a> { t = MatMul(x, w) y = Add(t, a) }"
    )
    assert "not one value per channel" in after.reasons[0]
    after = fused(HEAD.replace("[N,16,8,8] y", "[1,N,16,8,8] y") + f"<{STORED}, float[1,1,16,1,1] a>"
                  f"{{ {STEM} t = Conv<pads=[1,1,1,1]>(h, w, b) y = Add(t, a) }}")  # fmt: skip
    assert "not one value per channel" in after.reasons[0]


def test_layers_that_share_a_bias_and_a_term_keep_their_own_sums(fused):
    after = fused(
        "(float[N,32] x) => (float[N,16] y) <float[32,24] w, float[24,16] v, float[1] one>"
        "{ t = MatMul(x, w) a = Add(t, one) u = MatMul(a, v) y = Add(u, one) }",
        one=np.ones(1, np.float32),
    )
    assert after.counts == {"HybridGemm": 2}
    biases = [node.inputs[4] for node in after.graph.nodes]
    assert [b.values.shape for b in biases] == [(24,), (16,)]
    after = fused(
        "(float[N,16] x) => (float[N,16] y) <float[16,16] w, float[16,16] v, float[16] b, float[16] c>"
        "{ t = Gemm(x, w, b) a = Add(t, c) u = Gemm(a, v, b) y = Relu(u) }"
    )
    assert after.counts == {"HybridGemm": 2}


RESIDUAL = f"{STEM} t = Conv<pads=[1,1,1,1]>(h, w, b)"


@pytest.mark.parametrize("join", ["Add(t, h)", "Add(h, t)", "Sum(t, h)", "Sum(h, t)"])
def test_a_residual_becomes_an_input_of_the_convolution(fused, join):
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} s = {join} y = Relu(s) }}")
    assert after.counts == {"Conv": 1, "HybridConvAdd": 1}
    assert (after.graph.nodes[1].attrs["lower"], after.graph.nodes[1].attrs["upper"]) == (0, math.inf)


def test_of_two_convolutions_the_second_takes_the_other_as_its_residual(fused):
    after = fused(HEAD + f"<{STORED}, float[16,16,1,1] v> {{ {RESIDUAL} u = Conv(h, v) y = Add(t, u) }}")
    assert after.counts == {"Conv": 1, "HybridConv": 1, "HybridConvAdd": 1}


def test_a_sum_of_three_is_declined(fused):
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} y = Sum(t, h, h) }}")
    assert after.reasons == ["it sums 3 tensors, not two"]


def test_a_side_that_is_used_elsewhere_or_clipped_is_declined(fused):
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} s = Add(t, h) y = Mul(s, t) }}")
    assert "both sides are used elsewhere or already clipped" in after.reasons
    after = fused(
        HEAD + f"<{STORED}> {{ {RESIDUAL} r = Relu(t) y = Add(r, h) }}",
        then=(FuseActivation(), FuseResidual()),
    )
    assert "both sides are used elsewhere or already clipped" in after.reasons


def test_sides_that_broadcast_or_have_unknown_shapes_are_declined(fused):
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} g = GlobalAveragePool(h) y = Add(t, g) }}")
    assert after.reasons == ["the shapes of both sides are not known to be equal"]
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} y = Add(t, h) }}", shapes=False)
    assert after.reasons == ["the shapes of both sides are not known to be equal"]


@pytest.mark.parametrize(
    ("activation", "bounds"),
    [
        ("y = Relu(t)", (0, math.inf)),
        ("y = Clip(t, low, high)", (-0.25, 0.5)),
        ("y = Clip(t, low)", (-0.25, math.inf)),
        ("y = Clip(t, , high)", (-math.inf, 0.5)),
    ],
)
def test_relu_and_clip_become_the_bounds(fused, activation, bounds):
    after = fused(HEAD + f"<{STORED}, float low, float high> {{ {RESIDUAL} {activation} }}", low=-0.25, high=0.5)
    assert after.counts == {"Conv": 1, "HybridConv": 1}
    assert (after.graph.nodes[1].attrs["lower"], after.graph.nodes[1].attrs["upper"]) == bounds


def test_only_the_first_of_two_activations_is_taken(fused):
    after = fused(HEAD + f"<{STORED}, float high> {{ {RESIDUAL} r = Relu(t) y = Clip(r, , high) }}", high=0.5)
    assert after.counts == {"Conv": 1, "HybridConv": 1, "Clip": 1}


def test_other_activations_and_computed_bounds_are_declined(fused):
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} y = Sigmoid(t) }}")
    assert after.reasons == ["Sigmoid has no place in a hybrid operator"]
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} m = ReduceMax<keepdims=0>(x) y = Clip(t, , m) }}")
    assert after.reasons == ["its bounds are computed, not stored"]


def test_a_convolution_that_is_read_twice_keeps_its_activation_outside(fused):
    after = fused(HEAD + f"<{STORED}> {{ {RESIDUAL} r = Relu(t) y = Add(r, t) }}")
    assert after.counts["Relu"] == 1


@pytest.mark.parametrize("pattern", [Pattern(1, 4, 16, 8), Pattern(4, 4, 8, 8), Pattern(2, 8, 16, 4)], ids=str)
def test_the_whole_list_gives_the_answers_of_the_masked_model(model_of, rewrite, plan_of, pattern):
    model = model_of(
        "(float[N,3,8,8] x) => (float[N,20] y)"
        "<float[32,3,3,3] stem, float[32,32,3,3] w, float[32] g, float[32] h, float[32] m, float[32] v,"
        " float[32,32,1,1] u, float[20,32] fc, float[20] b>"
        f"{{ {STEM.replace('h =', 'i =')} s = Relu(i) c = Conv<pads=[1,1,1,1]>(s, w)"
        "  n = BatchNormalization(c, g, h, m, v) r = Relu(n) d = Conv(r, u) a = Sum(d, s) e = Relu(a)"
        "  p = GlobalAveragePool(e) f = Flatten(p) y = Gemm<transB=1>(f, fc, b) }",
        v=np.full(32, 0.5),
    )
    plan = plan_of(model, pattern)
    masked = model.graph()
    ApplyMasks(plan).run(masked)
    reference = model.with_graph(masked)
    hybrid = rewrite(model, hybrid_passes(plan), reference=reference)
    assert hybrid.counts["HybridConv"] == hybrid.counts["HybridConvAdd"] == hybrid.counts["HybridGemm"] == 1
    assert "BatchNormalization" not in hybrid.counts
    dense = rewrite(model, dense_passes(plan), reference=reference)
    assert dense.counts["Conv"] == 3


@pytest.mark.parametrize("part", ["values", "indices", "blocks", "bias", "bias_sum"])
@pytest.mark.parametrize("place", ["input of another node", "result of a node", "output", "input"])
def test_names_that_the_model_has_already_stay_its_own(fused, part, place):
    own, stored, head, tail, stem = f"w.{part}", STORED, HEAD, "y = Identity(z)", STEM
    if place == "input of another node":
        stored, tail = f"float[1,16,1,1] own, {STORED}", "y = Mul(z, own)"
    elif place == "result of a node":
        tail = "own = Sigmoid(z) y = Mul(z, own)"
    elif place == "output":
        head, tail = "(float[N,3,8,8] x) => (float[N,16,8,8] own)", "own = Sigmoid(z)"
    else:
        head, stem = "(float[N,3,8,8] own) => (float[N,16,8,8] y)", STEM.replace("x", "own")
    after = fused(
        f"{head} <{stored}, float[16,1,1] t> {{ {stem} s = Conv<pads=[1,1,1,1]>(h, w) z = Add(s, t) {tail} }}",
        renamed={"own": own},
    )
    assert after.counts["HybridConv"] == 1
    names = [i.name for node in after.graph.nodes if node.op == "HybridConv" for i in node.inputs]
    assert own not in names[1:]
    assert len(set(names)) == len(names)


def test_two_weights_whose_names_continue_each_other_get_packed_names_of_their_own(fused):
    after = fused(
        HEAD + "<float[16,3,3,3] stem, float[16,16,3,3] w, float[16,16,3,3] w_1, float[1,16,1,1] own>"
        f"{{ {STEM} a = Conv<pads=[1,1,1,1]>(h, w) b = Mul(a, own) y = Conv<pads=[1,1,1,1]>(b, w_1) }}",
        renamed={"own": "w.values"},
    )
    assert after.counts["HybridConv"] == 2
    stored = [i.name for node in after.graph.nodes if node.op == "HybridConv" for i in list(node.inputs)[1:]]
    assert len(set(stored)) == 8
