"""FoldShapes, FoldIf and FoldSequences: decisions that a file leaves to its runner and that are known already."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.passes.fold_constants import FoldConstants
from crisp_onnx.passes.fold_if import FoldIf
from crisp_onnx.passes.fold_sequences import FoldSequences
from crisp_onnx.passes.fold_shapes import FoldShapes

BRANCHES = (
    "<then_branch = t () => (float[N,4] o) { z = Add(a, w) o = Relu(z) },"
    " else_branch = e () => (float[N,4] p) { z = Mul(a, w) p = Neg(z) }>"
)
ALL = [FoldConstants(), FoldShapes(), FoldConstants(), FoldIf(), FoldSequences(), FoldConstants()]


@pytest.mark.parametrize(("condition", "kept"), [("1", {"Add", "Relu"}), ("0", {"Mul", "Neg"})])
def test_the_branch_of_a_stored_condition_is_taken(model_of, rewrite, condition, kept):
    model = model_of(
        f"(float[N,4] x) => (float[N,4] y) <bool c = {{{condition}}}, float[4] w>"
        f"{{ a = Abs(x) b = If(c) {BRANCHES} y = Abs(b) }}"
    )
    after = rewrite(model, [FoldIf()])
    assert set(after.counts) == {"Abs", "Identity"} | kept
    assert not after.declined


def test_an_if_that_writes_an_output_keeps_its_name(model_of, rewrite):
    model = model_of(
        f"(float[N,4] x) => (float[N,4] y) <bool c = {{1}}, float[4] w> {{ a = Abs(x) y = If(c) {BRANCHES} }}"
    )
    assert "If" not in rewrite(model, [FoldIf()]).counts


def test_two_ifs_may_use_the_same_names_inside(model_of, rewrite):
    second = BRANCHES.replace("(a,", "(b,")
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <bool c = {1}, bool d = {0}, float[4] w>"
        f"{{ a = Abs(x) b = If(c) {BRANCHES} y = If(d) {second} }}"
    )
    counts = rewrite(model, [FoldIf()]).counts
    assert (counts["Add"], counts["Mul"], counts.get("If", 0)) == (1, 1, 0)


def test_the_nodes_of_two_branches_may_have_the_same_names(model_of, rewrite):
    first, second = (BRANCHES.replace("z =", "[same] z =").replace("(a,", f"({read},") for read in "ab")
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <bool c = {1}, bool d = {0}, float[4] w>"
        f"{{ [same] a = Abs(x) b = If(c) {first} y = If(d) {second} }}"
    )
    names = [node.name for node in rewrite(model, [FoldIf()]).graph.nodes if node.name]
    assert "same" in names
    assert len(set(names)) == len(names)


def test_an_if_inside_a_branch_is_taken_too(model_of, rewrite):
    inner = "<then_branch = i () => (float[N,4] q) { q = Exp(a) }, else_branch = j () => (float[N,4] r) { r = Sin(a) }>"
    outer = (
        f"<then_branch = t () => (float[N,4] o) {{ z = If(d) {inner} o = Neg(z) }},"
        " else_branch = e () => (float[N,4] p) { p = Mul(a, a) }>"
    )
    model = model_of(
        f"(float[N,4] x) => (float[N,4] y) <bool c = {{1}}, bool d = {{0}}> {{ a = Abs(x) y = If(c) {outer} }}"
    )
    assert set(rewrite(model, [FoldIf()]).counts) == {"Abs", "Sin", "Neg", "Identity"}


def test_a_condition_on_the_input_stays(model_of, rewrite):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <float[4] w, float zero = {0}>"
        f"{{ a = Abs(x) s = ReduceMax<keepdims=0>(x) c = Greater(s, zero) y = If(c) {BRANCHES} }}"
    )
    after = rewrite(model, ALL)
    assert "If" in after.counts
    assert after.reasons == ["its condition depends on the input"]


@pytest.mark.parametrize("form", ["g = Gather(s, place)", "h = Slice(s, from, to) g = Squeeze(h, from0)"])
@pytest.mark.parametrize(("length", "kept"), [(1, "Relu"), (3, "Neg")])
def test_a_condition_on_a_known_length_is_decided(model_of, rewrite, form, length, kept):
    model = model_of(
        f"(float[N,4] x) => (float[N,4] y) <int64[3] t = {{-1,{length},4}}, int64 place = {{1}}, int64[1] from = {{1}},"
        " int64[1] to = {2}, int64[1] from0 = {0}, int64 one = {1}, float[4] w>"
        f"{{ r = Reshape(x, t) s = Shape(r) {form} c = Equal(g, one) a = Abs(x) y = If(c) {BRANCHES} }}"
    )
    after = rewrite(model, ALL, x=np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
    assert kept in after.counts and "If" not in after.counts


def test_a_condition_on_the_batch_stays(model_of, rewrite):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) <int64 zero = {0}, int64 one = {1}, float[4] w>"
        f"{{ s = Shape(x) n = Gather(s, zero) c = Equal(n, one) a = Abs(x) y = If(c) {BRANCHES} }}"
    )
    assert "If" in rewrite(model, ALL).counts


def test_shape_arithmetic_that_decides_nothing_stays(model_of, rewrite):
    model = model_of(
        "(float[4,6] x) => (float[P,Q] y) <int64[1] zero = {0}, int64[1] rest = {-1}>"
        "{ s = Shape(x) n = Gather(s, zero) t = Concat<axis=0>(n, rest) y = Reshape(x, t) }"
    )
    assert rewrite(model, [FoldShapes()], x=np.ones((4, 6), np.float32)).counts["Shape"] == 1


@pytest.mark.parametrize(
    "body",
    [
        "q = SplitToSequence<axis=1>(x, two) a = SequenceAt(q, i0) b = SequenceAt(q, i2) y = Concat<axis=1>(b, a)",
        "q = SplitToSequence<axis=1>(x, parts) a = SequenceAt(q, i1) y = Relu(a)",
        "q = SplitToSequence<axis=-1, keepdims=0>(x) a = SequenceAt(q, last) y = Relu(a)",
        "q = SplitToSequence<axis=1>(x) y = ConcatFromSequence<axis=0>(q)",
        "q = SplitToSequence<axis=1, keepdims=0>(x) y = ConcatFromSequence<axis=1, new_axis=1>(q)",
        "q = SequenceConstruct(x, x) r = SequenceInsert(q, z) y = ConcatFromSequence<axis=-1>(r)",
        "q = SequenceConstruct(x, z) r = SequenceErase(q, i0) s = SequenceInsert(r, x, i0)"
        " y = ConcatFromSequence<axis=1>(s)",
        "q = SequenceEmpty() r = SequenceInsert(q, x) n = SequenceLength(r) f = Cast<to=1>(n) y = Mul(x, f)",
    ],
)
def test_a_sequence_whose_places_are_known_goes(model_of, rewrite, body):
    model = model_of(
        "(float[N,6] x) => (float[P,Q] y) <int64 two = {2}, int64[3] parts = {1,3,2}, int64 i0 = {0}, int64 i1 = {1},"
        f" int64 i2 = {{2}}, int64 last = {{-1}}> {{ z = Neg(x) {body} }}"
        if "last)" not in body
        else "(float[N,6] x) => (float[P] y) <int64 last = {-1}> { z = Neg(x) " + body + " }"
    )
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    after = rewrite(model, [FoldSequences(), FoldConstants()], x=x)
    assert not [op for op in after.counts if "Sequence" in op]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("n = Cast<to=7>(m) a = SequenceAt(q, n) y = Relu(a)", "the place in its sequence is computed"),
        ("r = SequenceMap(q) <body = b (float[N,2] u) => (float[N,2] v) { v = Relu(u) }>"
         " y = ConcatFromSequence<axis=1>(r)", "what its sequence holds is not known"),
    ],
)  # fmt: skip
def test_a_sequence_that_depends_on_the_input_stays(model_of, rewrite, body, reason):
    model = model_of(
        "(float[N,6] x) => (float[P,Q] y) <int64 two = {2}, float zero = {0}>"
        f"{{ q = SplitToSequence<axis=1>(x, two) s = ReduceMax<keepdims=0>(x) m = Mul(s, zero) {body} }}"
    )
    after = rewrite(model, [FoldSequences()])
    assert reason in after.reasons
