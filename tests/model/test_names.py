"""New tensors and nodes take no name that stands anywhere in the graph."""

from __future__ import annotations

from crisp_onnx.model import fresh_name, tensor_names, used_names


def test_a_fresh_name_is_taken_from_then_on():
    taken = {"w", "w_1"}
    assert [fresh_name(taken, "w"), fresh_name(taken, "w"), fresh_name(taken, "v")] == ["w_2", "w_3", "v"]


def test_names_inside_branches_count(model_of):
    model = model_of(
        "(bool c, float[2] x) => (float[2] y) {"
        "[choice] y = If (c) <then_branch = one () => (float[2] inner) { [minus] inner = Neg(x) },"
        " else_branch = other () => (float[2] deep) { deep = Abs(x) }> }"
    )
    assert {"c", "x", "y", "inner", "deep"} <= tensor_names(model.graph())
    assert used_names(model.graph()) >= tensor_names(model.graph()) | {"choice", "minus"}
