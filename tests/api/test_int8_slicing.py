"""`--head slice --precision int8`: columns in the user's order, as many as they name, on bytes up to the last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from crisp_onnx.api.acceptance import accept
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.slicing import slice_head
from crisp_onnx.data import Images
from crisp_onnx.data.values import AsIs, ValueStore
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, with_value_info
from crisp_onnx.passes import dense_passes, run_passes
from crisp_onnx.quantize.calibration import look_at
from crisp_onnx.quantize.grids import grids_by
from crisp_onnx.quantize.model import quantise_model, quantised_tensors
from crisp_onnx.task import task_of

BODY = "a = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(a) p = GlobalAveragePool(r)"
HEADS = {
    "Gemm": "f = Flatten(p) y = Gemm<transB = 1>(f, rows, b)",
    "MatMul and Add": "f = Flatten(p) t = MatMul(f, columns) y = Add(t, b)",
    "convolution behind the pool": "t = Conv(p, window, b) y = Flatten(t)",
    "convolution before a pool": "t = Conv(r, window, b) q = GlobalAveragePool(t) y = Flatten(q)",
    "Softmax": "f = Flatten(p) t = Gemm<transB = 1>(f, rows, b) y = Softmax(t)",
}


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("head", HEADS)
def test_the_columns_are_those_of_the_whole_model_in_the_order_of_the_list(
    head: str, batch: str, model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]], tmp_path: Path
) -> None:
    rows = 3 * np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    stored = "float[8,3,3,3] w, float[6,8] rows, float[8,6] columns, float[6,8,1,1] window, float[6] b"
    whole = model_of(
        f"(float[{batch},3,6,6] x) => (float[{batch},6] y) <{stored}> {{ {BODY} {HEADS[head]} }}",
        rows=rows, columns=rows.T.copy(), window=rows[:, :, None, None],
    )  # fmt: skip
    prepared = accept(prepare(whole)).prepared
    x = np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32)
    parts = [x[i : i + 1] for i in range(len(x))]
    every = np.concatenate([answers(whole, part)[0] for part in parts])
    images = Images(ValueStore(x, "x"), np.arange(len(x)), None, AsIs((3, 6, 6), x.dtype, (6, 6)), "x")
    for classes in ((4, 1), (5, 0, 3), (3, 5, 0, 2, 4, 1)):
        graph = prepared.model.graph()
        slice_head(graph, prepared, task_of(prepared.head, classes))
        run_passes(dense_passes(Plan()), graph)
        cut = with_value_info(prepared.model.with_graph(graph))
        seen = look_at(cut, quantised_tensors(cut.graph()), images, batch=None if batch == "N" else 1)
        written = quantise_model(cut, grids_by("range", seen), size=(6, 6))
        assert not written.left
        onnx.save(written.model.proto, tmp_path / "cut.onnx")
        (output,) = ort.InferenceSession(tmp_path / "cut.onnx", providers=["CPUExecutionProvider"]).get_outputs()
        assert (output.name, output.shape) == ("y", [1 if batch == "1" else "N", len(classes)])
        found = np.concatenate([answers(written.model, part)[0] for part in parts])
        expected = every[:, list(classes)]
        if head == "Softmax":
            expected = expected / expected.sum(1, keepdims=True)
        apart = np.abs(found - expected).max(0)
        assert (apart < 0.1 * np.abs(expected - expected.mean(0)).max() + 0.02).all()
        # No other column of the whole model is as near: the order is the list's.
        others = np.abs(found[:, :, None] - expected[:, None, :]).mean(0)
        assert (others.argmin(1) == np.arange(len(classes))).all()
