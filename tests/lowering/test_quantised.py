"""Models on bytes: every form in which ONNX writes them is read with its types, MACs and zeros."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crisp_onnx.cost import estimate
from crisp_onnx.lowering import Lowered, load_target, lower
from crisp_onnx.model import Model

MACS = 8 * 4 * 9 * 36 + 5 * 8
SCALES = "float s, int8 z, uint8 u"
WEIGHT = np.random.default_rng(0).integers(1, 100, (8, 4, 3, 3)).astype(np.int8)
DENSE = np.random.default_rng(1).integers(1, 100, (8, 5)).astype(np.int8)
QDQ = f"""(float[1,4,6,6] x) => (float[1,5] y) <int8[8,4,3,3] w, int8[8,5] v, {SCALES}> {{
  q = QuantizeLinear(x, s, u)  d = DequantizeLinear(q, s, u)  e = DequantizeLinear(w, s, z)
  c = Conv <pads = [1,1,1,1]> (d, e)  r = Relu(c)  rq = QuantizeLinear(r, s, u)  rd = DequantizeLinear(rq, s, u)
  p = GlobalAveragePool(rd)  f = Flatten(p)  fq = QuantizeLinear(f, s, u)  fd = DequantizeLinear(fq, s, u)
  g = DequantizeLinear(v, s, z)  y = MatMul(fd, g)
}}"""
OPERATORS = f"""(float[1,4,6,6] x) => (float[1,5] y) <int8[8,4,3,3] w, int8[8,5] v, {SCALES}> {{
  q = QuantizeLinear(x, s, u)  c = QLinearConv <pads = [1,1,1,1]> (q, s, u, w, s, z, s, u)
  d = DequantizeLinear(c, s, u)  p = GlobalAveragePool(d)  f = Flatten(p)  fq = QuantizeLinear(f, s, u)
  m = QLinearMatMul(fq, s, u, v, s, z, s, u)  y = DequantizeLinear(m, s, u)
}}"""
INTEGER = f"""(float[1,4,6,6] x) => (float[1,5] y) <int8[8,4,3,3] w, int8[8,5] v, {SCALES}> {{
  q, qs, qz = DynamicQuantizeLinear(x)  c = ConvInteger <pads = [1,1,1,1]> (q, w, qz, z)  f0 = Cast <to = 1> (c)
  p = GlobalAveragePool(f0)  f = Flatten(p)  fq, fs, fz = DynamicQuantizeLinear(f)
  m = MatMulInteger(fq, v, fz, z)  y = Cast <to = 1> (m)
}}"""
FORMS = {"QDQ": QDQ, "QOperator": OPERATORS, "integer": INTEGER}


def lowered(model_of: Callable[..., Model], text: str, target: str, **weights: np.ndarray) -> Lowered:
    scales = {"s": np.array(0.02, np.float32), "z": np.array(0, np.int8), "u": np.array(3, np.uint8)}
    return lower(model_of(text, **{**scales, "w": WEIGHT, "v": DENSE, **weights}), target)


@pytest.mark.parametrize("form", FORMS)
def test_products_on_bytes_are_read_whole(model_of: Callable[..., Model], form: str) -> None:
    found = lowered(model_of, FORMS[form], "x86_avx512")
    products = [op for op in found.operators if op.matrix is not None]
    assert found.totals.macs == MACS
    assert found.totals.stored_weight_bytes == 8 * 4 * 9 + 40  # a byte each
    assert [op.dtype for op in products] == ["int8", "int8"]
    assert [op.kind for op in products] == ["conv3x3", "gemv"]
    assert not any("left out" in note for note in found.notes)


def test_bytes_that_a_target_does_not_compute_are_said_to_be_costed_in_floats(
    model_of: Callable[..., Model], tmp_path: object
) -> None:
    found = lowered(model_of, QDQ, "stc_edge_int8")
    assert found.notes == ()
    assert {op.dtype for op in found.operators} == {"int8"}


@pytest.mark.parametrize("form", FORMS)
def test_zeros_are_the_weights_at_the_zero_point(model_of: Callable[..., Model], form: str) -> None:
    sparse = WEIGHT.copy()
    sparse[:, 2:] = 7  # the zero point
    sparse[:, :2] = np.maximum(sparse[:, :2], 8)
    found = lowered(model_of, FORMS[form], "stc_edge_int8", w=sparse, z=np.array(7, np.int8))
    conv = next(op for op in found.operators if op.kind == "conv3x3")
    assert (conv.pattern.nm_keep, conv.pattern.nm_group) == (2, 4)
    assert conv.seen.nm == "skip"


def test_an_estimate_of_a_model_on_bytes_names_their_type_and_leans_on_their_rates(
    model_of: Callable[..., Model],
) -> None:
    found = estimate(lowered(model_of, QDQ, "x86_avx512"), load_target("x86_avx512"))
    assert (found.dtype, found.dtypes) == ("int8", ("int8",))
    keys = {leaf.key for leaf in found.leaned_on}
    assert "array.peak_dense_mac_per_cycle.int8" in keys
    assert "array.peak_dense_mac_per_cycle.fp32" not in keys
