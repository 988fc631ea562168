"""Local functions and decided branches are lowered as what is inside of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crisp_onnx.lowering import lower
from crisp_onnx.model import Model

PLAIN = """(float[1,8,10,10] x) => (float[1,8,10,10] y) <float[8,8,3,3] w, float[8,8,3,3] v> {
  a = Conv <pads = [1,1,1,1]> (x, w)  b = Relu (a)  c = Conv <pads = [1,1,1,1]> (b, v)  y = Relu (c) }"""
CALLED = """(float[1,8,10,10] x) => (float[1,8,10,10] y) <float[8,8,3,3] w, float[8,8,3,3] v> {
  h = local.Block (x, w)  y = local.Block (h, v) }"""
BLOCK = """<domain: "local", opset_import: ["" : 17]>
Block (i, k) => (o) { c = Conv <pads = [1,1,1,1]> (i, k)  o = Relu (c) }"""
DECIDED = """(float[1,8,10,10] x) => (float[1,8,10,10] y) <float[8,8,3,3] w, float[8,8,3,3] v, bool sure> {
  a = Conv <pads = [1,1,1,1]> (x, w)  b = Relu (a)
  y = If (sure) <
    then_branch = yes () => (float[1,8,10,10] t) { c = Conv <pads = [1,1,1,1]> (b, v)  t = Relu (c) },
    else_branch = no () => (float[1,8,10,10] e) { e = Identity (b) }> }"""


def test_a_function_costs_what_its_operators_cost(model_of: Callable[..., Model]) -> None:
    found = lower(model_of(CALLED, functions=BLOCK), "stc_edge_int8")
    assert found.totals == lower(model_of(PLAIN), "stc_edge_int8").totals
    assert [(op.op, op.fused_ops) for op in found.operators] == [("Conv", ("Relu",))] * 2
    assert found.notes == ()


def test_the_branch_that_is_always_taken_costs_what_it_costs_without_the_if(model_of: Callable[..., Model]) -> None:
    found = lower(model_of(DECIDED, sure=np.array(True)), "stc_edge_int8")
    assert found.totals == lower(model_of(PLAIN), "stc_edge_int8").totals
    assert lower(model_of(DECIDED, sure=np.array(False)), "stc_edge_int8").totals.macs == found.totals.macs // 2
