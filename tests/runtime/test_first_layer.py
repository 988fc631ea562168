"""A first layer in float32 and in int8, both from real numbers to bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from crisp_onnx.format import Pattern
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.first_layer import giving_bytes, measure_first_layer, reading_floats
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid

CASE = LayerCase((16, 3, 3, 3), (1, 3, 12, 12), Pattern(4, 4, 16, 8), 2, (2, 2), (1, 1, 1, 1), element="int8")


def test_both_forms_take_the_image_and_give_the_layers_bytes() -> None:
    image = np.random.default_rng(0).standard_normal(CASE.input_shape, dtype=np.float32)
    dense, _ = dense_and_hybrid(CASE)
    x = np.clip(np.rint(image / np.float32(0.02)) + 128, 0, 255).astype(np.uint8)
    for form, source, given in (
        (reading_floats(dense), dense, {"x": x}),
        (giving_bytes(real := dense_and_hybrid(replace(CASE, element="float32"))[0]), real, {"x": image}),
    ):
        (found,) = ort.InferenceSession(form).run(None, {"image": image})
        (expected,) = ort.InferenceSession(source).run(None, given)
        assert found.dtype == np.uint8
        if expected.dtype != np.uint8:
            expected = np.clip(np.rint(expected / np.float32(0.02)), 0, 255).astype(np.uint8)
        assert found.shape == (1, 16, 6, 6)
        assert (found == expected).all()
        assert 0 < (found > 0).mean() < 1


@pytest.mark.skipif(library_path() is None, reason="no kernels on this machine")
@pytest.mark.parametrize("ours", [False, True])
def test_both_forms_are_timed(ours: bool) -> None:
    times = measure_first_layer(CASE, ours=ours, budget_s=0.02)
    assert times.dense_ms > 0
    assert times.hybrid_ms > 0
