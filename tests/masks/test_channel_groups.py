"""Groups of layers that share channels, by topology."""

from __future__ import annotations

import pytest

from crisp_onnx.masks import channel_groups
from crisp_onnx.model import tensor_shapes, weight_layers

STEM = "[stem] s = Conv<pads=[1,1,1,1]>(x, ws)"
STORED = "float[8,3,3,3] ws, float[8,8,1,1] wa, float[8,8,1,1] wb, float[6,8,1,1] wc"
HEAD = "(float[N,3,4,4] x) => (float[N,C,H,W] y) "


@pytest.fixture
def groups_of(model_of):
    def groups(text):
        model = model_of(text)
        shapes = tensor_shapes(model)
        return channel_groups(model.graph(), weight_layers(model, shapes), shapes)

    return groups


def written_by(groups, name):
    (group,) = [group for group in groups if name in group.producers]
    return group


def test_a_plain_chain_has_a_group_between_every_two_layers(groups_of):
    groups = groups_of(HEAD + f"<{STORED}> {{ {STEM} r = Relu(s) [a] y = Conv(r, wc) }}")
    middle = written_by(groups, "stem")
    assert (middle.width, middle.producers, middle.consumers, middle.bounds) == (8, ("stem",), ("a",), ())
    assert written_by(groups, "a").bounds == ("graph output 'y'",)
    assert [g.bounds for g in groups if not g.producers] == [("graph input 'x'",)]


def test_a_residual_ties_its_two_producers(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}> {{ {STEM} [a] t = Conv(s, wa) u = Add(t, s) r = Relu(u) [c] y = Conv(r, wc) }}"
    )
    tied = written_by(groups, "stem")
    assert tied.producers == ("stem", "a")
    assert tied.consumers == ("a", "c")
    assert tied.bounds == ()


def test_a_gate_of_one_value_per_channel_is_tied_and_one_per_position_is_not(groups_of):
    gated = groups_of(HEAD + f"<{STORED}> {{ {STEM} p = GlobalAveragePool(s) [a] g = Conv(p, wa) y = Mul(s, g) }}")
    assert written_by(gated, "stem").producers == ("stem", "a")
    mask = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[1,8,1,1] w1> { [stem] s = Conv<pads=[1,1,1,1]>(x, ws)"
        " [a] g = Conv(s, w1) y = Mul(s, g) }"
    )
    assert written_by(mask, "stem").producers == ("stem",)


def test_concat_and_split_end_a_group_and_say_so(groups_of):
    joined = groups_of(
        HEAD + f"<{STORED}, float[6,16,1,1] wd> {{ {STEM} [a] t = Conv(s, wa) [j] u = Concat<axis=1>(t, s)"
        " [d] y = Conv(u, wd) }"
    )
    assert "Concat 'j'" in written_by(joined, "stem").bounds
    assert "Concat 'j'" in written_by(joined, "a").bounds
    (behind,) = [group for group in joined if group.consumers == ("d",)]
    assert (behind.width, behind.producers, behind.bounds) == (16, (), ("Concat 'j'",))
    parted = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[6,4,1,1] wd, float[6,4,1,1] we> { [stem] s = Conv(x, ws)"
        " [p] t, u = Split<axis=1>(s) [d] v = Conv(t, wd) [e] w = Conv(u, we) y = Add(v, w) }"
    )
    for name in ("d", "e"):
        (before,) = [group for group in parted if group.consumers == (name,)]
        assert before.bounds == ("Split 'p'",), name
    assert written_by(parted, "d").producers == ("d", "e")


def test_a_depthwise_convolution_passes_channels_through(groups_of):
    groups = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[8,1,3,3] wd, float[6,8,1,1] wc>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) [d] t = Conv<group=8, pads=[1,1,1,1]>(s, wd) [c] y = Conv(t, wc) }"
    )
    group = written_by(groups, "stem")
    assert group.producers == ("stem", "d")
    assert group.consumers == ("d", "c")
    assert group.bounds == ()


def test_a_grouped_convolution_and_a_depth_multiplier_bind_both_sides(groups_of):
    grouped = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[8,4,1,1] wd, float[6,8,1,1] wc>"
        "{ [stem] s = Conv(x, ws) [d] t = Conv<group=2>(s, wd) [c] y = Conv(t, wc) }"
    )
    assert "Conv 'd'" in written_by(grouped, "stem").bounds
    assert "Conv 'd'" in written_by(grouped, "d").bounds
    assert "d" not in written_by(grouped, "stem").producers
    multiplied = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[16,1,1,1] wd, float[6,16,1,1] wc>"
        "{ [stem] s = Conv(x, ws) [d] t = Conv<group=8>(s, wd) [c] y = Conv(t, wc) }"
    )
    assert "Conv 'd'" in written_by(multiplied, "stem").bounds


def test_layers_that_share_a_weight_share_their_channels(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}, float[8,3,3,3] wt> {{ {STEM} [other] o = Conv<pads=[1,1,1,1]>(x, wt)"
        " [a] t = Conv(s, wa) [b] u = Conv(o, wa) [j] y = Concat<axis=1>(t, u) }"
    )
    assert written_by(groups, "a").producers == ("a", "b")
    assert written_by(groups, "stem").producers == ("stem", "other")


def test_flattening_images_ends_a_group_and_flattening_pooled_ones_does_not(groups_of):
    wide = groups_of(
        "(float[N,3,4,4] x) => (float[N,5] y) <float[8,3,3,3] ws, float[128,5] fc>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) [f] t = Flatten(s) [fc] y = Gemm(t, fc) }"
    )
    assert "Flatten 'f'" in written_by(wide, "stem").bounds
    pooled = groups_of(
        "(float[N,3,4,4] x) => (float[N,5] y) <float[8,3,3,3] ws, float[8,5] fc>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) p = GlobalAveragePool(s) t = Flatten(p) [fc] y = Gemm(t, fc) }"
    )
    assert written_by(pooled, "stem").consumers == ("fc",)
    assert written_by(pooled, "stem").bounds == ()


def test_a_reshape_to_as_many_positions_as_channels_is_not_taken_for_the_same_channels(groups_of):
    groups = groups_of(
        "(float[N,3,4,4] x) => (float[N,16,5] y) <float[16,3,3,3] ws, int64[3] shape = {0,16,16}, float[16,5] m>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) [r] t = Reshape(s, shape) [m] y = MatMul(t, m) }"
    )
    assert "Reshape 'r'" in written_by(groups, "stem").bounds


def test_two_outputs_bind_the_channels_that_they_show(groups_of):
    groups = groups_of(
        "(float[N,3,4,4] x) => (float[N,8,4,4] y, float[N,8,4,4] r) <float[8,3,3,3] ws, float[8,8,1,1] wa>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) r = Relu(s) [a] y = Conv(r, wa) }"
    )
    assert written_by(groups, "stem").bounds == ("graph output 'r'",)
    assert written_by(groups, "a").bounds == ("graph output 'y'",)


def test_tokens_carry_their_channels_last(groups_of):
    groups = groups_of(
        "(float[N,7,16] x) => (float[N,7,16] y) <float[16,32] up, float[32,16] down>"
        "{ [up] h = MatMul(x, up) g = Relu(h) [down] d = MatMul(g, down) y = Add(d, x) }"
    )
    assert (written_by(groups, "up").width, written_by(groups, "up").consumers) == (32, ("down",))
    assert set(written_by(groups, "down").bounds) == {"graph input 'x'", "graph output 'y'"}


def test_operators_that_move_channels_bind_them(groups_of):
    groups = groups_of(HEAD + f"<{STORED}> {{ {STEM} [t] u = Transpose<perm=[0,2,3,1]>(s) y = Relu(u) }}")
    assert written_by(groups, "stem").bounds == ("Transpose 't'",)
