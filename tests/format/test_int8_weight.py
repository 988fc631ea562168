"""Weights in int8: survivors set the scale, zeros are zero, sums fit 31 bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.format import Pattern, decode
from crisp_onnx.format.int8_weight import int8_weight
from crisp_onnx.format.packing import HybridTensors
from crisp_onnx.runtime.layer_case import random_tensors

PATTERN = Pattern(2, 4, 8, 4)


def a_weight(seed: int, shape: tuple[int, ...], kept: int, factor: float = 1.0) -> HybridTensors:
    found = random_tensors(np.random.default_rng(seed), shape, PATTERN, kept)
    return HybridTensors((found.values * np.float32(factor)).astype(np.float32), found.indices, found.blocks)


@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 60), st.integers(-20, 20))
def test_a_row_is_rounded_by_half_a_step_at_most_and_its_largest_pair_is_about_127_steps(
    seed: int, rows: int, columns: int, power: int
) -> None:
    shape = (rows, columns, 1, 1)
    tensors = a_weight(seed, shape, 1, 2.0**power)
    bias = np.random.default_rng(seed).standard_normal(rows).astype(np.float32) * np.float32(2.0**power)
    found = int8_weight(tensors, bias, 0.02, rows)
    real = decode(tensors, shape, PATTERN).reshape(rows, columns).astype(np.float64)
    whole = decode(found.tensors, shape, PATTERN).reshape(rows, columns)
    assert found.scale.shape == found.bias.shape == (rows,)
    assert (whole[real == 0] == 0).all()
    step = found.scale[:, None].astype(np.float64)
    assert (np.abs(whole * step - real) <= 0.501 * step).all()
    alive = np.abs(real).max(axis=1) > 0
    values = found.tensors.values.astype(int)
    pairs = values[:, :, :, ::2] + values[:, :, :, 1::2]
    rows_pairs = np.abs(pairs).max(axis=(1, 3), initial=0).reshape(-1)[:rows]
    assert (rows_pairs <= 128).all()
    together = np.maximum(np.abs(whole).max(axis=1, initial=0), rows_pairs)
    assert (together[alive] >= 126).all() and (together <= 128).all()
    assert (
        np.abs(found.bias * found.scale * np.float64(0.02) - bias) <= 0.501 * found.scale * 0.02 + 1e-7 * np.abs(bias)
    ).all()
    assert not found.obstacle(0.02, 0.02, None)


def test_a_bias_far_above_its_weights_widens_the_scale_until_it_fits() -> None:
    tensors = a_weight(0, (8, 16, 1, 1), 1, 1e-9)
    bias = np.array([1e4, 1, 0, -1e4, 0, 0, 0, 1e-12], np.float32)
    found = int8_weight(tensors, bias, 0.01, 8)
    assert np.abs(found.bias.astype(np.int64)).max() <= 2**30
    assert np.allclose(found.bias * found.scale.astype(np.float64) * 0.01, bias, rtol=1e-6, atol=1e-12)
    assert not found.obstacle(0.01, 0.01, None)


def test_a_row_without_weights_has_a_scale_and_its_bias() -> None:
    tensors = a_weight(0, (8, 16, 1, 1), 1, 0.0)
    found = int8_weight(tensors, np.zeros(8, np.float32), 0.01, 8)
    assert (found.scale > 0).all() and not found.bias.any() and not found.tensors.values.any()


def test_what_no_kernel_takes_is_said() -> None:
    tensors = a_weight(0, (8, 16, 1, 1), 1)
    found = int8_weight(tensors, np.zeros(8, np.float32), 0.01, 8)
    assert "ratio" in found.obstacle(1e30, 1e-30, None)
    assert "above zero" in found.obstacle(0.01, 0.0, None)
    too_much = type(found)(found.tensors, found.scale, np.full(8, 2**31 - 1, np.int32))
    assert "31 bits" in too_much.obstacle(0.01, 0.01, None)
