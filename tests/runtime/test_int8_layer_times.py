"""An int8 layer is timed as int8: bytes in both forms, one operator of the runtime against one of ours."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from crisp_onnx.format import Pattern
from crisp_onnx.format.operators import Q_CONV, Q_GEMM
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.layer_times import measure_layer

CONV = LayerCase((32, 48, 3, 3), (1, 48, 9, 8), Pattern(), 3, pads=(1, 1, 1, 1), element="int8")
GEMM = LayerCase((32, 48, 1, 1), (5, 48), Pattern(), 2, element="int8")


@pytest.mark.parametrize(("case", "ops"), [(CONV, (Q_CONV, "QLinearConv")), (GEMM, (Q_GEMM, "QGemm"))])
def test_both_forms_give_the_same_bytes(case: LayerCase, ops: tuple[str, str], tmp_path) -> None:  # type: ignore[no-untyped-def]
    dense, hybrid = dense_and_hybrid(case)
    assert ops[0] in {node.op_type for node in onnx.load_model_from_string(hybrid).graph.node}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "dense.onnx")
    feed = {"x": case.feed()}
    one = ort.InferenceSession(dense, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]
    other = ort.InferenceSession(hybrid, providers=["CPUExecutionProvider"]).run(None, feed)[0]
    assert one.dtype == np.uint8 and np.abs(one.astype(int) - other).max() <= 1
    assert len(np.unique(other)) > 20
    assert ops[1] in {node.op_type for node in onnx.load(tmp_path / "dense.onnx").graph.node}


def test_the_key_tells_int8_from_float32() -> None:
    assert CONV.key != LayerCase(CONV.weight_shape, CONV.input_shape, CONV.pattern, 3, pads=CONV.pads).key


def test_an_int8_layer_is_timed(library) -> None:  # type: ignore[no-untyped-def]
    times = measure_layer(CONV, budget_s=0.01)
    assert times.dense_ms > 0 and times.hybrid_ms > 0
