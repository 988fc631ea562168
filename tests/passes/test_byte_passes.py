"""Functions and depthwise convolutions between bytes become operators on bytes, with the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from crisp_onnx.format import with_bodies
from crisp_onnx.model import Model
from crisp_onnx.passes import ByteDepthwise, ByteTables, run_pass

FUNCTIONS = {
    "HardSwish": "f = HardSwish (r)",
    "a GELU in pieces": "d = Div (r, root) e = Erf (d) a = Add (e, one) m = Mul (r, a) f = Mul (m, half)",
    "SiLU": "s = Sigmoid (r) f = Mul (s, r)",
    "LeakyRelu": "f = LeakyRelu <alpha = 0.3> (r)",
    "Reciprocal": "f = Reciprocal (r)",
}
STORED = {
    "scale": np.array(0.04, np.float32),
    "zero": np.array(110, np.uint8),
    "y_scale": np.array(0.03, np.float32),
    "y_zero": np.array(9, np.uint8),
    "root": np.array(2**0.5, np.float32),
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
    "each": np.array([1, 2], np.float32),
}
POOL = "pkg.crisp_onnx.QMaxPool <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0]>"


def graph_of(middle: str, *, ours: bool = True, more: str = "", outputs: str = "uint8[1, 8, 4, 2] y") -> gs.Graph:
    first = f"{POOL} (x)" if ours else "Identity (x)"
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "pkg.crisp_onnx" : 1]>
        g (uint8[1, 8, 4, 2] x) => ({outputs}) {{
          b = {first}
          r = DequantizeLinear (b, scale, zero)
          {middle}
          y = QuantizeLinear (f, y_scale, y_zero)
          {more}
        }}"""
    )
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in STORED.items() if name in used
    )
    return gs.import_onnx(onnx.shape_inference.infer_shapes(proto))


def answers(graph: gs.Graph, x: np.ndarray) -> np.ndarray:
    model = with_bodies(Model(gs.export_onnx(graph), Path("g.onnx"), ""))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.proto.SerializeToString(), options).run(["y"], {"x": x})[0]


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_of_each_byte_becomes_a_table_of_the_same_answers(function: str) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 4, 2)
    graph = graph_of(function)
    expected = [answers(graph, x) for x in every]
    assert run_pass(ByteTables(), graph).changed == 1
    assert [node.op for node in graph.nodes] == ["QMaxPool", "QTable"]
    for x, known in zip(every, expected, strict=True):
        assert np.array_equal(answers(graph, x), known)


@pytest.mark.parametrize(
    ("middle", "options"),
    [
        ("f = HardSwish (r)", {"ours": False}),
        ("h = HardSwish (r) f = Identity (h)", {}),
        ("f = Mul (r, each)", {}),  # another number for each column
        ("o = DequantizeLinear (x, scale, zero) f = Mul (r, o)", {}),  # two tensors
        ("o = DequantizeLinear (b, y_scale, zero) f = Mul (r, o)", {}),  # two grids
        ("f = Softmax (r)", {}),
        ("f = HardSwish (r)", {"more": "z = Neg (f)", "outputs": "uint8[1, 8, 4, 2] y, float[1, 8, 4, 2] z"}),
        ("f = Log (r)", {}),  # no number for negative ones
    ],
)
def test_what_is_no_function_of_one_byte_stays(middle: str, options: dict[str, object]) -> None:
    graph = graph_of(middle, **options)
    before = [node.op for node in graph.nodes]
    assert run_pass(ByteTables(), graph).changed == 0
    assert [node.op for node in graph.nodes] == before


def depthwise_graph(
    attributes: str = "pads = [1, 1, 1, 1]", *, bias: str = ", v", bias_scale: float = 1, more: int = 1
) -> gs.Graph:
    rows = "w = DequantizeLinear <axis = 0> (w8, ws, wz) v = DequantizeLinear <axis = 0> (v32, vs, vz)"
    graph = graph_of(f"{rows} f = Conv <group = 8, {attributes}> (r, w{bias})")
    rng, count = np.random.default_rng(0), 8 * more
    scales = rng.uniform(0.001, 0.01, count).astype(np.float32)
    stored = {
        "w8": rng.integers(-127, 128, (count, 1, 3, 3)).astype(np.int8),
        "ws": scales,
        "wz": np.zeros(count, np.int8),
        "v32": rng.integers(-900, 900, count).astype(np.int32),
        "vs": (scales * STORED["scale"] * np.float32(bias_scale)).astype(np.float32),
        "vz": np.zeros(count, np.int32),
    }
    for name, values in stored.items():
        graph.tensors()[name].to_constant(values)
    return graph


@pytest.mark.parametrize("bias", [", v", ""])
@pytest.mark.parametrize(
    "attributes", ["pads = [1, 1, 1, 1]", "pads = [1, 1, 1, 1], dilations = [1, 1], strides = [2, 1]"]
)
def test_a_depthwise_convolution_between_bytes_becomes_ours_with_the_same_answers(bias: str, attributes: str) -> None:
    graph = depthwise_graph(attributes, bias=bias)
    x = np.random.default_rng(1).integers(0, 256, (1, 8, 4, 2)).astype(np.uint8)
    expected = answers(graph, x)
    assert run_pass(ByteDepthwise(), graph).changed == 1
    assert [node.op for node in graph.nodes] == ["QMaxPool", "QDepthwiseConv"]
    assert np.abs(answers(graph, x).astype(int) - expected.astype(int)).max() <= 1


def test_a_bias_at_another_scale_stays_with_the_reason() -> None:
    graph = depthwise_graph(bias_scale=1.5)
    result = run_pass(ByteDepthwise(), graph)
    assert result.changed == 0
    assert [place.reason for place in result.declined] == ["its bias is not stored at the scale of its sums"]


def test_a_convolution_that_gives_more_channels_than_it_takes_stays() -> None:
    assert run_pass(ByteDepthwise(), depthwise_graph(more=2)).changed == 0
