"""Kernels against bodies, one operator on bytes after the other, on what flows through a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from byte_layer import pool_attributes
from hybrid_layer import OPSET
from int8_layer import depthwise_attributes, depthwise_tensors, random_int8_layer
from onnx import TensorProto, helper, numpy_helper, parser

from crisp_onnx.errors import CrispError
from crisp_onnx.format import DOMAIN, VERSION, operator_function
from crisp_onnx.format.bodies import byte_function
from crisp_onnx.format.operators import DEPTHWISE, MAX_POOL, Q_CONV, TABLE
from crisp_onnx.runtime import native as native_module
from crisp_onnx.runtime.int8_layers import int8_agreement
from crisp_onnx.runtime.opening import runtime_text, session

CHANNELS = 16
IMAGES = np.random.default_rng(1).standard_normal((2, CHANNELS, 9, 11), dtype=np.float32)


def chain(folder: Path, *operators: str) -> Path:
    """A file that takes real numbers, and passes bytes through these operators, one behind the other."""
    rng = np.random.default_rng(0)
    grid = {"scale": np.array(0.02, np.float32), "zero": np.array(128, np.uint8)}
    stored, nodes, data = dict(grid), [helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["b0"])], "b0"
    for number, op in enumerate(operators):
        attributes, tensors = layer_of(op, rng)
        named = {f"{op}{number}.{name}": tensor for name, tensor in tensors.items()}
        stored |= named
        out = f"b{number + 1}"
        nodes.append(helper.make_node(op, [data, *named], [out], name=op, domain=DOMAIN, **attributes))
        data = out
    nodes.append(helper.make_node("DequantizeLinear", [data, "scale", "zero"], ["answer"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *IMAGES.shape[1:]])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(tensor, name) for name, tensor in stored.items()],
    )
    bodies = [operator_function(op, OPSET) if op == Q_CONV else byte_function(op, OPSET) for op in set(operators)]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    onnx.save(helper.make_model(graph, functions=bodies, opset_imports=opsets, ir_version=8), folder / "chain.onnx")
    return folder / "chain.onnx"


def layer_of(op: str, rng: np.random.Generator) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    if op == Q_CONV:
        layer = random_int8_layer(rng, (CHANNELS, CHANNELS, 1, 1), block=16)
        return layer.attrs, layer.tensors
    if op == DEPTHWISE:
        attributes = depthwise_attributes(CHANNELS, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
        return attributes, depthwise_tensors(rng, CHANNELS, (3, 3))
    if op == MAX_POOL:
        return pool_attributes((3, 2), (2, 1), (1, 0, 1, 1)), {}
    return {}, {"table": rng.permutation(256).astype(np.uint8)}


def with_body(path: Path, op: str, text: str) -> Path:
    """The file with another body of `op`, an assignment of Y."""
    proto = onnx.load(path)
    (function,) = (function for function in proto.functions if function.name == op)
    other = parser.parse_function(
        f'<opset_import: ["" : {OPSET}], domain: "{DOMAIN}"> {op} ({", ".join(function.input)}) => (Y) {{ {text} }}'
    )
    del function.node[:]
    function.node.extend(other.node)
    del function.attribute[:]
    onnx.save(proto, path)
    return path


def test_every_operator_of_ours_on_bytes_is_compared(library: Path, tmp_path: Path) -> None:
    found = int8_agreement(chain(tmp_path, Q_CONV, DEPTHWISE, TABLE, MAX_POOL), IMAGES)
    assert [layer.name for layer in found] == [Q_CONV, DEPTHWISE, TABLE, MAX_POOL]
    assert all(layer.holds for layer in found)
    assert [layer.equal for layer in found if layer.name in (TABLE, MAX_POOL)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (TABLE, "Y = Identity (X)"),
        (MAX_POOL, "Y = MaxPool <kernel_shape: ints = [3, 2], strides: ints = [2, 1], pads: ints = [0, 1, 2, 0]> (X)"),
        (DEPTHWISE, "Y = Identity (X)"),
    ],
)
def test_a_body_that_says_something_else_is_found(op: str, body: str, library: Path, tmp_path: Path) -> None:
    found = int8_agreement(with_body(chain(tmp_path, Q_CONV, op), op, body), IMAGES)
    assert {layer.name: layer.holds for layer in found} == {Q_CONV: True, op: False}


def test_a_file_of_such_operators_alone_runs_in_the_kernels(library: Path, tmp_path: Path) -> None:
    path = chain(tmp_path, TABLE)
    assert runtime_text(path).startswith("native kernels")
    assert [layer.name for layer in int8_agreement(path, IMAGES)] == [TABLE]


@pytest.mark.parametrize("op", [TABLE, DEPTHWISE, MAX_POOL])
def test_such_an_operator_that_the_library_lacks_is_named(
    op: str, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chain(tmp_path, Q_CONV, op)
    monkeypatch.setattr(native_module, "registered_operators", lambda: (Q_CONV,))
    with pytest.raises(CrispError, match=f"have none for {op}: build them anew"):
        session(path, native=True)
