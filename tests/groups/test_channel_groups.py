"""Groups of channels by topology: where they lie, who writes and reads them, what binds them."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.groups import Barrier, Member, channel_groups
from crisp_onnx.model import tensor_shapes, weight_layers

STEM = "[stem] s = Conv<pads=[1,1,1,1]>(x, ws)"
STORED = "float[8,3,3,3] ws, float[8,8,1,1] wa, float[8,8,1,1] wb, float[6,8,1,1] wc"
HEAD = "(float[N,3,4,4] x) => (float[N,C,H,W] y) "
FLAT = "(float[N,3,4,4] x) => (float[N,5] y) "


@pytest.fixture
def groups_of(model_of):
    def groups(text, **values):
        model = model_of(text, **values)
        shapes = tensor_shapes(model)
        return channel_groups(model.graph(), weight_layers(model, shapes), shapes)

    return groups


def written_by(groups, name):
    (group,) = [group for group in groups if name in group.producers]
    return group


def read_by(groups, name):
    return [group for group in groups if name in group.consumers]


def bounds(group):
    return [str(barrier) for barrier in group.barriers]


def places(group):
    """(tensor, axis, start, stop) of every member."""
    return {(member.tensor, member.axis, member.start, member.stop) for member in group.members}


def test_a_plain_chain_has_a_group_between_every_two_layers(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}, float[8] b> {{ [stem] s = Conv(x, ws, b) [r] r = Relu(s) [a] y = Conv(r, wc) }}"
    )
    middle = written_by(groups, "stem")
    assert (middle.width, middle.producers, middle.consumers, middle.passes) == (8, ("stem",), ("a",), ("r",))
    assert places(middle) == {("ws", 0, 0, 8), ("b", 0, 0, 8), ("wc", 1, 0, 8)}
    assert {member.tensor for member in middle.flows} == {"s", "r"}
    assert middle.movable
    assert middle.removable
    assert bounds(written_by(groups, "a")) == ["graph output 'y'"]
    (image,) = [group for group in groups if not group.producers]
    assert (image.barriers, image.removable) == ((Barrier("graph input", "x"),), False)


def test_a_batch_norm_and_its_vectors_go_with_the_channels(groups_of):
    group = written_by(
        groups_of(
            HEAD + f"<{STORED}, float[8] g, float[8] b, float[8] m, float[8] v>"
            f"{{ {STEM} n = BatchNormalization(s, g, b, m, v) [a] y = Conv(n, wc) }}"
        ),
        "stem",
    )
    assert places(group) == {("ws", 0, 0, 8), ("wc", 1, 0, 8), *((name, 0, 0, 8) for name in "gbmv")}


def test_a_residual_ties_its_two_producers(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}> {{ {STEM} [a] t = Conv(s, wa) u = Add(t, s) r = Relu(u) [c] y = Conv(r, wc) }}"
    )
    tied = written_by(groups, "stem")
    assert tied.producers == ("stem", "a")
    assert tied.consumers == ("a", "c")
    assert places(tied) == {("ws", 0, 0, 8), ("wa", 0, 0, 8), ("wa", 1, 0, 8), ("wc", 1, 0, 8)}
    assert tied.removable


def test_a_gate_of_one_value_per_channel_is_tied_and_one_per_position_is_not(groups_of):
    gated = groups_of(HEAD + f"<{STORED}> {{ {STEM} p = GlobalAveragePool(s) [a] g = Conv(p, wa) y = Mul(s, g) }}")
    assert written_by(gated, "stem").producers == ("stem", "a")
    mask = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[1,8,1,1] w1, float[6,8,1,1] wc> { [stem] s = Conv<pads=[1,1,1,1]>(x, ws)"
        " [a] g = Conv(s, w1) [m] u = Mul(s, g) y = Conv(u, wc) }"
    )
    assert written_by(mask, "stem").producers == ("stem",)
    assert written_by(mask, "stem").removable
    assert [str(barrier) for barrier in written_by(mask, "a").keeps] == ["Mul 'm': one channel goes to all"]


def test_a_concat_gives_every_part_its_columns_in_what_reads_it(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}, float[6,16,1,1] wd> {{ {STEM} [a] t = Conv(s, wa) u = Concat<axis=1>(t, s)"
        " [d] y = Conv(u, wd) }"
    )
    assert places(written_by(groups, "a")) == {("wa", 0, 0, 8), ("wd", 1, 0, 8)}
    assert places(written_by(groups, "stem")) == {("ws", 0, 0, 8), ("wa", 1, 0, 8), ("wd", 1, 8, 16)}
    assert len(read_by(groups, "d")) == 2
    assert all(group.removable for group in read_by(groups, "d"))


def test_a_residual_over_a_concat_cuts_its_own_rows_in_two(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}, float[16,8,1,1] we, float[6,16,1,1] wd> {{ {STEM} [a] t = Conv(s, wa)"
        " u = Concat<axis=1>(t, s) [e] v = Conv(s, we) z = Add(u, v) [d] y = Conv(z, wd) }"
    )
    first, second = (group for group in groups if "e" in group.producers)
    assert places(first) == {("ws", 0, 0, 8), ("wa", 1, 0, 8), ("we", 1, 0, 8), ("we", 0, 8, 16), ("wd", 1, 8, 16)}
    assert places(second) == {("wa", 0, 0, 8), ("we", 0, 0, 8), ("wd", 1, 0, 8)}


def test_split_and_slice_part_the_rows_of_what_wrote_them(groups_of):
    parted = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[6,3,1,1] wd, float[6,5,1,1] we, int64[2] sizes = {3, 5}>"
        "{ [stem] s = Conv(x, ws) t, u = Split<axis=1>(s, sizes) [d] v = Conv(t, wd) [e] w = Conv(u, we)"
        " y = Add(v, w) }"
    )
    assert places(*read_by(parted, "d")) == {("ws", 0, 0, 3), ("wd", 1, 0, 3)}
    assert places(*read_by(parted, "e")) == {("ws", 0, 3, 8), ("we", 1, 0, 5)}
    assert written_by(parted, "d").producers == ("d", "e")
    sliced = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[6,4,1,1] wd, int64[1] one = {1}, int64[1] nine = {9}, int64[1] two = {2}>"
        "{ [stem] s = Conv(x, ws) t = Slice(s, one, nine, one, two) [d] y = Conv(t, wd) }"
    )
    (odd,) = read_by(sliced, "d")
    assert Member("ws", 0, 1, 8, step=2) in odd.members
    assert odd.members[0].indices([0, 3]).tolist() == [1, 7]


def test_a_depthwise_convolution_passes_channels_through(groups_of):
    groups = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[8,1,3,3] wd, float[6,8,1,1] wc>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) [d] t = Conv<group=8, pads=[1,1,1,1]>(s, wd) [c] y = Conv(t, wc) }"
    )
    group = written_by(groups, "stem")
    assert group.producers == ("stem", "d")
    assert group.consumers == ("d", "c")
    assert places(group) == {("ws", 0, 0, 8), ("wd", 0, 0, 8), ("wc", 1, 0, 8)}


def test_a_depth_multiplier_makes_several_rows_of_one_channel(groups_of):
    groups = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[16,1,1,1] wd, float[6,16,1,1] wc>"
        "{ [stem] s = Conv(x, ws) [d] t = Conv<group=8>(s, wd) [c] y = Conv(t, wc) }"
    )
    group = written_by(groups, "stem")
    assert group.width == 8
    assert Member("wd", 0, 0, 16, step=2, span=2) in group.members
    assert Member("wc", 1, 0, 16, step=2, span=2) in group.members


def test_a_grouped_convolution_keeps_its_groups_of_one_width(groups_of):
    groups = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[6,4,1,1] wd, float[6,6,1,1] wc>"
        "{ [stem] s = Conv(x, ws) [d] t = Conv<group=2>(s, wd) [c] y = Conv(t, wc) }"
    )
    before, behind = written_by(groups, "stem"), written_by(groups, "d")
    assert (before.width, places(before)) == (4, {("ws", 0, 0, 4), ("ws", 0, 4, 8), ("wd", 1, 0, 4)})
    assert (behind.width, places(behind)) == (
        3, {("wd", 0, 0, 3), ("wd", 0, 3, 6), ("wc", 1, 0, 3), ("wc", 1, 3, 6)},
    )  # fmt: skip


def test_a_transposed_convolution_stores_what_it_reads_first(groups_of):
    groups = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[8,5,2,2] wt, float[5] b, float[6,5,1,1] wc>"
        "{ [stem] s = Conv(x, ws) t = ConvTranspose<strides=[2,2]>(s, wt, b) [c] y = Conv(t, wc) }"
    )
    assert places(written_by(groups, "stem")) == {("ws", 0, 0, 8), ("wt", 0, 0, 8)}
    assert places(*read_by(groups, "c")) == {("wt", 1, 0, 5), ("b", 0, 0, 5), ("wc", 1, 0, 5)}


def test_layers_that_share_a_weight_share_their_channels(groups_of):
    groups = groups_of(
        HEAD + f"<{STORED}, float[8,3,3,3] wt> {{ {STEM} [other] o = Conv<pads=[1,1,1,1]>(x, wt)"
        " [a] t = Conv(s, wa) [b] u = Conv(o, wa) y = Concat<axis=1>(t, u) }"
    )
    assert written_by(groups, "a").producers == ("a", "b")
    assert written_by(groups, "stem").producers == ("stem", "other")


@pytest.mark.parametrize("trans", [0, 1])
def test_a_flattened_channel_is_as_many_columns_as_it_has_positions(groups_of, trans):
    groups = groups_of(
        FLAT + f"<float[8,3,3,3] ws, float[{'5,128' if trans else '128,5'}] fc>"
        f"{{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) t = Flatten(s) [fc] y = Gemm<transB={trans}>(t, fc) }}"
    )
    group = written_by(groups, "stem")
    assert group.consumers == ("fc",)
    assert Member("fc", trans, 0, 128, step=16, span=16) in group.members
    assert group.removable


def test_flattened_with_channels_last_a_channel_is_one_column_at_every_position(groups_of):
    groups = groups_of(
        FLAT + "<float[8,3,3,3] ws, int64[2] flat = {0, -1}, float[128,5] fc> { [stem] s = Conv<pads=[1,1,1,1]>(x, ws)"
        " t = Transpose<perm=[0,2,3,1]>(s) u = Reshape(t, flat) [fc] y = Gemm(u, fc) }"
    )
    group = written_by(groups, "stem")
    assert [m for m in group.members if m.tensor == "fc"] == [Member("fc", 0, i, i + 8) for i in range(0, 128, 8)]


def test_a_reshape_to_as_many_positions_as_channels_is_not_taken_for_the_same_channels(groups_of):
    groups = groups_of(
        "(float[N,3,4,4] x) => (float[N,16,5] y) <float[16,3,3,3] ws, int64[3] shape = {0,16,16}, float[16,5] m>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) [r] t = Reshape(s, shape) [m] y = MatMul(t, m) }"
    )
    assert "m" not in written_by(groups, "stem").consumers
    assert bounds(written_by(groups, "stem")) == ["graph output 'y'"]
    assert all(not group.movable for group in read_by(groups, "m"))


def test_a_channel_shuffle_is_followed_as_a_whole(groups_of):
    groups = groups_of(
        HEAD + "<float[6,3,3,3] ws, int64[5] apart = {1,2,3,4,4}, int64[4] back = {1,6,4,4}, float[6,6,1,1] wc>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) a = Reshape(s, apart) b = Transpose<perm=[0,2,1,3,4]>(a)"
        " c = Reshape(b, back) [c] y = Conv(c, wc) }"
    )
    halves = [group for group in groups if "stem" in group.producers]
    assert [places(group) for group in halves] == [
        {("ws", 0, 0, 3), ("wc", 1, 0, 5)}, {("ws", 0, 3, 6), ("wc", 1, 1, 6)},
    ]  # fmt: skip
    assert all(Member("wc", 1, i, i + 5, step=2) in group.members for i, group in enumerate(halves))


def test_padded_channels_are_told_apart_from_those_that_are_computed(groups_of):
    groups = groups_of(
        HEAD + "<float[4,3,1,1] ws, float[8,3,1,1] wt, int64[8] pads = {0,2,0,0,0,2,0,0}, float[6,8,1,1] wc>"
        "{ [stem] s = Conv(x, ws) p = Pad(s, pads) [t] t = Conv(x, wt) a = Add(p, t) [c] y = Conv(a, wc) }"
    )
    assert {places_ for group in groups for places_ in places(group) if places_[0] == "wc" and places_[1]} == {
        ("wc", 1, 0, 2), ("wc", 1, 2, 6), ("wc", 1, 6, 8),
    }  # fmt: skip
    assert written_by(groups, "stem").movable


def test_two_outputs_bind_the_channels_that_they_show(groups_of):
    groups = groups_of(
        "(float[N,3,4,4] x) => (float[N,8,4,4] y, float[N,8,4,4] r) <float[8,3,3,3] ws, float[8,8,1,1] wa>"
        "{ [stem] s = Conv<pads=[1,1,1,1]>(x, ws) r = Relu(s) [a] y = Conv(r, wa) }"
    )
    assert bounds(written_by(groups, "stem")) == ["graph output 'r'"]
    assert bounds(written_by(groups, "a")) == ["graph output 'y'"]


def test_tokens_carry_their_channels_last(groups_of):
    groups = groups_of(
        "(float[N,7,16] x) => (float[N,7,16] y) <float[16,32] up, float[32,16] down>"
        "{ [up] h = MatMul(x, up) g = Relu(h) [down] d = MatMul(g, down) y = Add(d, x) }"
    )
    assert (written_by(groups, "up").width, written_by(groups, "up").consumers) == (32, ("down",))
    assert set(bounds(written_by(groups, "down"))) == {"graph input 'x'", "graph output 'y'"}


def test_channels_go_through_a_layer_norm_of_one_axis_and_stay_in_one_of_several(groups_of):
    groups = groups_of(
        "(float[N,7,16] x) => (float[N,7,16] y) <float[16,32] up, float[32] s, float[32] b, float[32,16] down>"
        "{ [up] h = MatMul(x, up) [n] g = LayerNormalization(h, s, b) [down] y = MatMul(g, down) }"
    )
    group = written_by(groups, "up")
    assert places(group) == {("up", 1, 0, 32), ("s", 0, 0, 32), ("b", 0, 0, 32), ("down", 0, 0, 32)}
    assert (group.movable, group.removable) == (True, True)
    groups = groups_of(
        "(float[N,3,4] x) => (float[N,6,4] y) <float[8,3,1] up, float[8,4] s, float[6,8,1] down>"
        "{ [up] h = Conv(x, up) [n] g = LayerNormalization<axis=1>(h, s) [down] y = Conv(g, down) }"
    )
    group = written_by(groups, "up")
    assert (group.movable, group.removable) == (True, False)
    assert str(group.keeps[0]) == "LayerNormalization 'n': its mean and variance are those of all channels"


def test_heads_of_an_attention_live_and_die_as_units(groups_of):
    """Four heads of three in query, key and value, written as one matrix; nothing inside a head may move."""
    groups = groups_of(
        "(float[N,7,16] x) => (float[N,7,5] y) <float[16,36] qkv, int64[5] apart = {0,0,3,4,3}, int64 i0 = {0},"
        " int64 i1 = {1}, int64 i2 = {2}, int64[3] back = {0,0,12}, float[12,5] out> {"
        " [qkv] h = MatMul(x, qkv) r = Reshape(h, apart) t = Transpose<perm=[2,0,3,1,4]>(r) q = Gather(t, i0)"
        " k = Gather(t, i1) v = Gather(t, i2) kt = Transpose<perm=[0,1,3,2]>(k) a = MatMul(q, kt)"
        " s = Softmax<axis=-1>(a) m = MatMul(s, v) n = Transpose<perm=[0,2,1,3]>(m) o = Reshape(n, back)"
        " [out] y = MatMul(o, out) }"
    )
    group = written_by(groups, "qkv")
    assert (group.width, group.removable, group.consumers) == (4, True, ("out",))
    assert group.members == (
        *(Member("qkv", 1, i, i + 12, step=3, span=3) for i in (0, 12, 24)),
        Member("out", 0, 0, 12, step=3, span=3),
    )


def test_branches_that_are_weighed_against_one_another_have_the_channels_of_each_and_no_branch_goes(groups_of):
    """As split attention does (arXiv 2004.08955): two branches of four, summed with shares that sum to one."""
    groups = groups_of(
        HEAD + f"<{STORED}, float[2,4,1,1] wd, float[8,2,1,1] wu, float[6,4,1,1] w4, int64[5] two = {{0,2,4,4,4}},"
        " int64[5] each = {0,2,4,1,1}, int64[1] one = {1}> {"
        f" {STEM} b = Reshape(s, two) t = ReduceSum<keepdims=0>(b, one) p = GlobalAveragePool(t) [down] d = Conv(p, wd)"
        " [up] u = Conv(d, wu) e = Reshape(u, each) f = Softmax<axis=1>(e) m = Mul(b, f)"
        " z = ReduceSum<keepdims=0>(m, one) [a] y = Conv(z, w4) }"
    )
    group = written_by(groups, "stem")
    assert (group.width, group.removable, group.producers) == (4, True, ("stem", "up"))
    assert group.members[0] == Member("ws", 0, 0, 4)
    assert group.members[1] == Member("ws", 0, 4, 8)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin"])
def test_what_all_channels_come_to_at_a_place_does_not_hold_them(groups_of, op):
    groups = groups_of(HEAD + f"<{STORED}> {{ {STEM} m = {op}<axes=[1]>(s) g = Mul(s, m) [a] y = Conv(g, wc) }}")
    assert written_by(groups, "stem").removable


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("LRN<size=3>(s)", "LRN 'o': it mixes neighbouring channels"),
        ("DepthToSpace<blocksize=2>(s)", "DepthToSpace 'o': it turns channels into positions"),
        ("CumSum(s, one)", "CumSum 'o': it adds up in their order"),
        ("Trilu(s)", "Trilu 'o': channels are not followed through this operator"),
    ],
)
def test_what_is_not_followed_binds_its_channels_and_no_others(groups_of, node, words):
    groups = groups_of(
        HEAD + "<float[8,3,3,3] ws, float[6,8,1,1] wb, float[8,6,1,1] wa, int64 one = {1}>"
        f"{{ [b] t = Conv(x, ws) [free] r = Conv(t, wb) [stem] s = Conv(r, wa) [o] y = {node} }}"
    )
    assert words in bounds(written_by(groups, "stem"))
    assert written_by(groups, "b").removable
    assert written_by(groups, "free").removable


def test_what_a_branch_reads_from_outside_is_bound(groups_of):
    groups = groups_of(
        "(float[1,3,4,4] x) => (float[1,8,4,4] y) <float[8,3,1,1] ws, float z = {0}>"
        "{ [stem] s = Conv(x, ws) m = ReduceMax<keepdims=0>(x) c = Greater(m, z)"
        " [i] y = If (c) <then_branch = one () => (float[1,8,4,4] p) { p = Relu(s) },"
        " else_branch = other () => (float[1,8,4,4] q) { q = Neg(s) }> }"
    )
    assert "If 'i': a graph inside it reads them" in bounds(written_by(groups, "stem"))


def test_an_unknown_shape_is_a_barrier_with_its_name(model_of):
    model = model_of(HEAD + f"<{STORED}> {{ {STEM} r = Relu(s) [a] y = Conv(r, wc) }}")
    shapes = {name: shape for name, shape in tensor_shapes(model).items() if name != "r"}
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    assert "the shape of 'r' is not known" in bounds(written_by(groups, "stem"))[0]


def test_axes_that_only_a_shape_makes_long_cost_coverage_and_no_memory(groups_of):
    groups = groups_of(
        HEAD
        + f"<{STORED}, int64[4] wide = {{1,8,4,1000000000}}> {{ {STEM} p = GlobalAveragePool(s) [e] e = Expand(p, wide)"
        " [m] m = ReduceMean<axes=[3]>(e) [a] y = Conv(m, wc) }"
    )
    assert "the shape of 'e' is not known, or too long to follow" in bounds(written_by(groups, "stem"))[0]


def test_attributes_that_no_operator_has_are_a_barrier_and_no_crash(model_of):
    model = model_of(HEAD + f"<{STORED}> {{ {STEM} [t] r = Transpose<perm=[0,1,2,3]>(s) [a] y = Conv(r, wc) }}")
    graph, shapes = model.graph(), tensor_shapes(model)
    graph.nodes[1].attrs["perm"] = [0, 9, 2, 3]
    groups = channel_groups(graph, weight_layers(model, shapes), shapes)
    assert "are not as the operator has them" in bounds(written_by(groups, "stem"))[0]


def test_members_say_where_each_channel_lies():
    flat = Member("fc", 1, 32, 64, step=16, span=16)
    assert flat.indices([1]).tolist() == list(range(48, 64))
    assert np.array_equal(Member("w", 0, 4, 8).indices(range(4)), [4, 5, 6, 7])
