"""The MaxPool of bytes: the pass that makes it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from byte_layer import byte_model, pool_attributes
from onnx import numpy_helper, parser

from crisp_onnx.format import recount
from crisp_onnx.format.node import is_hybrid
from crisp_onnx.format.operators import MAX_POOL
from crisp_onnx.passes import BytePools

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
    proto = byte_model(MAX_POOL, pool_attributes((2, 2), (2, 2), (0, 0, 0, 0)), {}, 4)
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(proto))
    assert recount(graph) == ()
    assert not any(is_hybrid(node) for node in graph.nodes)
