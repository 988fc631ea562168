"""The MaxPool of bytes: the pass that makes it, its body, and the kernel, against the standard operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hybrid_layer import OPSET, open_session
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from int8_layer import random_bytes
from onnx import TensorProto, helper, numpy_helper, parser

from crisp_onnx.format import DOMAIN, VERSION, recount
from crisp_onnx.format.bodies import byte_function
from crisp_onnx.format.node import is_hybrid
from crisp_onnx.passes import BytePools

SLOW_START = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


def pool_model(kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...]) -> onnx.ModelProto:
    node = helper.make_node(
        "QMaxPool", ["X"], ["Y"], name="layer0", domain=DOMAIN, kernel_shape=kernel, strides=strides, pads=pads
    )
    data = [helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * 4) for name in "XY"]
    graph = helper.make_graph([node], "pool", data[:1], data[1:])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, functions=[byte_function("QMaxPool", OPSET)], opset_imports=opsets, ir_version=8)


@settings(max_examples=40, **SLOW_START)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    shape=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    threads=st.sampled_from([1, 2]),
)
def test_the_kernel_and_the_body_take_the_greatest_byte_of_every_window(
    kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...], shape: tuple[int, ...], threads: int,
    library: Path,
) -> None:  # fmt: skip
    pads = tuple(min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads))
    assume(all(shape[2 + i] + pads[i] + pads[2 + i] >= kernel[i] for i in range(2)))
    x = random_bytes(np.random.default_rng(0), shape)
    model = pool_model(kernel, strides, pads)
    body, answer = (open_session(model, kernels, threads).run(None, {"X": x})[0] for kernels in (None, library))
    assert answer.shape == body.shape
    assert np.array_equal(answer, body)


GRIDS = {"scale": np.array(0.5, np.float32), "zero": np.array(3, np.uint8), "other": np.array(4, np.uint8)}


@pytest.mark.parametrize(
    ("attributes", "zero", "becomes"),
    [
        ("kernel_shape = [2, 2], strides = [2, 2]", "zero", "QMaxPool"),
        ("kernel_shape = [3, 3], pads = [1, 1, 1, 1]", "zero", "QMaxPool"),
        ("kernel_shape = [3, 3], dilations = [2, 2]", "zero", "MaxPool"),
        ("kernel_shape = [3, 3], ceil_mode = 1", "zero", "MaxPool"),
        ("kernel_shape = [2, 2]", "other", "MaxPool"),
    ],
)
def test_a_pool_between_bytes_of_one_grid_becomes_a_pool_of_bytes(attributes: str, zero: str, becomes: str) -> None:
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (uint8[1, 2, 9, 9] x) => (uint8[N, C, H, W] y) {{
          real = DequantizeLinear (x, scale, zero)
          pooled = MaxPool <{attributes}> (real)
          y = QuantizeLinear (pooled, scale, {zero})
        }}"""
    )
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in GRIDS.items())
    graph = gs.import_onnx(proto)
    result = BytePools().run(graph)
    graph.cleanup()
    assert result.changed == (becomes == "QMaxPool")
    assert becomes in {node.op for node in graph.nodes}
    assert len(graph.nodes) == (1 if result.changed else 3)


def test_what_reads_a_file_knows_a_pool_of_bytes_from_a_hybrid_layer() -> None:
    proto = onnx.shape_inference.infer_shapes(pool_model((2, 2), (2, 2), (0, 0, 0, 0)))
    graph = gs.import_onnx(proto)
    assert recount(graph) == ()
    assert not any(is_hybrid(node) for node in graph.nodes)
