"""Layout changes: where they are expected, ONNX Runtime makes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser, save

from crisp_onnx.cost import estimate
from crisp_onnx.format.node import Grid
from crisp_onnx.format.operators import MAX_POOL
from crisp_onnx.lowering import load_target, lower
from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.layers import lower_again
from crisp_onnx.lowering.layout import CONVERSION, LAYOUT, with_layout_changes
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.timing import timing_kind
from crisp_onnx.model import Model, load, with_value_info
from crisp_onnx.quantize.model import quantise_model, quantised_tensors, rehearsed
from crisp_onnx.runtime.library import load_library

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,32,32] x) => (float[1,10] y)
<float[32,3,3,3] w0, float[32,1,3,3] w1, float[WIDTH,32,1,1] w2, float[WIDTH,WIDTH,3,3] w3, float[10,WIDTH] w4>
{
  [c0] a = Conv <pads = [1,1,1,1]> (x, w0)
  [r0] b = Relu (a)
  [p0] c = MaxPool <kernel_shape = [2,2], strides = [2,2]> (b)
  [c1] d = Conv <pads = [1,1,1,1], group = 32> (c, w1)
  [c2] e = Conv (d, w2)
  [c3] f = Conv <pads = [1,1,1,1]> (e, w3)
  [s0] g = Add (e, f)
  [p1] h = GlobalAveragePool (g)
  [f0] i = Flatten (h)
  [m0] y = Gemm <transB = 1> (i, w4)
}
"""
BLOCKS = LayerSparsity(4, 4, 16, 16, 1, 8, hybrid=True)


def network(folder: Path, width: int) -> Model:
    proto = parser.parse_model(NET.replace("WIDTH", str(width)))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.value_info}
    del proto.graph.value_info[:]
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.full(shape, 0.1, np.float32), name))
    save(proto, folder / "net.onnx")
    return load(folder / "net.onnx")


def changes(operators: tuple[LoweredOp, ...], granule: int = 16) -> list[str]:
    return [op.reads[0] for op in with_layout_changes(operators, granule) if op.op == LAYOUT]


def in_runtime(path: Path) -> Counter[str]:
    """Operators in the graph that ONNX Runtime makes of the file for this processor, with the kernels if there are."""
    options, kernels = ort.SessionOptions(), load_library().path
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.mark.parametrize(("width", "expected"), [(64, ["p1"]), (20, ["c3"])])
def test_channels_that_fill_no_groups_are_converted_before_the_pool(
    tmp_path: Path, width: int, expected: list[str]
) -> None:
    model = network(tmp_path, width)
    assert changes(lower(model, "x86_avx2").operators) == expected
    counts = in_runtime(tmp_path / "net.onnx")
    found = counts["ReorderInput"] + counts["ReorderOutput"]
    if found == 0:
        pytest.skip("ONNX Runtime keeps channels plain on this processor")
    assert found == len(expected)


def test_a_hybrid_operator_among_convolutions_is_converted_to_and_from(tmp_path: Path) -> None:
    target = load_target("x86_avx2")
    operators = lower(network(tmp_path, 64), target, dtype="fp32").operators
    mixed = tuple(lower_again(op, BLOCKS, target, "fp32", hybrid=True) if op.name == "c2" else op for op in operators)
    assert changes(mixed) == ["c1", "c2", "p1"]
    assert with_layout_changes(with_layout_changes(mixed, 16), 16) == with_layout_changes(mixed, 16)


def test_convolutions_of_bytes_take_channels_last_and_pools_of_bytes_do_not(tmp_path: Path) -> None:
    model = rehearsed(with_value_info(network(tmp_path, 64)), size=(32, 32)).model
    operators = lower(model, "x86_avx2").operators
    assert {op.dtype for op in operators} == {"int8"}
    assert changes(operators) == ["c0", "p0", "p1"]
    path = tmp_path / "int8.onnx"
    save(model.proto, path)
    counts = in_runtime(path)
    if not counts["QLinearConv"] or not counts[MAX_POOL]:
        pytest.skip("no convolutions of bytes in ONNX Runtime on this processor, or no kernels")
    assert counts["Transpose"] == 1 + len(changes(operators))  # one of the image, which no layer made


def test_what_some_layers_take_as_bytes_and_others_as_floats_is_converted(tmp_path: Path) -> None:
    model = with_value_info(network(tmp_path, 64))
    grids = dict.fromkeys(quantised_tensors(model.graph()), Grid(0.02, 128))
    mixed = quantise_model(model, grids, size=(32, 32), keep={"c3": "left in floats"}).model
    operators = with_layout_changes(lower(mixed, "x86_avx2").operators, 16)
    assert {op.name: op.dtype for op in operators}["c3"] == "fp32"
    converted = {op.reads[0]: (op.input_bytes, op.output_bytes) for op in operators if op.op == CONVERSION}
    values = 64 * 16 * 16
    assert converted["c2"] == (values, 4 * values)
    assert converted["p1"] == (4 * 64, 64)  # behind the sum and the pool, where fewer numbers cross


def test_only_a_measured_processor_pays_for_layout_changes(tmp_path: Path) -> None:
    model = network(tmp_path, 64)
    found = estimate(lower(model, "x86_avx2"), load_target("x86_avx2"))
    assert not [layer for layer in found.layers if layer.op == LAYOUT]


def test_an_operator_reads_what_others_made_through_reshapes_and_fused_neighbours(tmp_path: Path) -> None:
    reads = {op.name: op.reads for op in lower(network(tmp_path, 64), "x86_avx2").operators}
    assert reads["c0"] == ()
    assert reads["p0"] == ("c0",)
    assert reads["c3"] == ("c2",)
    assert reads["m0"] == ("p1",)


def test_a_shuffle_of_bytes_is_slow_where_channels_come_last_and_moves_whole_rows_elsewhere(tmp_path: Path) -> None:
    model = rehearsed(with_value_info(network(tmp_path, 64)), size=(32, 32)).model
    convolution = next(op for op in lower(model, "x86_avx2").operators if op.name == "c2")
    rows = LoweredOp(name="rows", op="Add", kind="elementwise", input_bytes=64, output_bytes=64, dtype="int8")
    kinds = []
    for source in (convolution, rows):
        shuffle = rows.model_copy(update={"name": "shuffle", "op": "Transpose", "axes": 5, "reads": (source.name,)})
        found = with_layout_changes((source, shuffle), 16)
        kinds.append(timing_kind(found[-1], 16))
    assert kinds == ["int8_shuffle", "int8_transpose"]
