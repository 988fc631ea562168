"""`estimate --data`: zeros among what a layer reads, whether it reads floats or bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crisp_onnx.api.densities import measured_densities
from crisp_onnx.model import Model

SCALES = "float s, int8 z, uint8 u"
READ = "q = QuantizeLinear(x, s, u)"
FORMS = {
    "floats": "(float[N,3,8,8] x) => (float[N,6,8,8] y) <float[6,3,1,1] f> { y = Conv(x, f) }",
    "QDQ": f"""(float[N,3,8,8] x) => (float[N,6,8,8] y) <int8[6,3,1,1] w, {SCALES}>
    {{ {READ} d = DequantizeLinear(q, s, u) e = DequantizeLinear(w, s, z) y = Conv(d, e) }}""",
    "QOperator": f"""(float[N,3,8,8] x) => (float[N,6,8,8] y) <int8[6,3,1,1] w, {SCALES}>
    {{ {READ} c = QLinearConv(q, s, u, w, s, z, s, u) y = DequantizeLinear(c, s, u) }}""",
}
POINT = 3


@pytest.mark.parametrize("form", FORMS)
def test_zeros_of_bytes_are_what_the_zero_point_says(form: str, model_of: Callable[..., Model], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, (4, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=pixels, y=np.zeros(4, int))
    values = {
        "f": np.ones((6, 3, 1, 1), np.float32), "w": np.ones((6, 3, 1, 1), np.int8), "s": np.array(1, np.float32),
        "z": np.array(0, np.int8), "u": np.array(POINT, np.uint8),
    }  # fmt: skip
    model = model_of(FORMS[form], **{name: value for name, value in values.items() if f" {name}" in FORMS[form]})
    (found,) = measured_densities(model, tmp_path / "d.npz", "raw").values()
    assert found == pytest.approx(np.count_nonzero(pixels) / pixels.size)
