"""Raising old models: the same answers at opset 13, with names, dimensions and metadata as they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, version_converter

from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, upgrade


def old_model(opset: int, ir: int, path) -> Model:  # type: ignore[no-untyped-def]
    """Conv, BatchNorm, Dropout, pooling, Softmax over channels: operators whose meaning has changed since."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((6, 3, 3, 3)), "fc": rng.standard_normal((6, 5)), "b": rng.standard_normal(5)}
    arrays |= {name: rng.random(6) + 0.5 for name in ("scale", "shift", "mean", "var")}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["t"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["t", "scale", "shift", "mean", "var"], ["n"], name="norm"),
        helper.make_node("Dropout", ["n"], ["d", "mask"], name="drop"),
        helper.make_node("Clip", ["d"], ["c"], name="clip", min=0.0, max=6.0),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Squeeze", ["p"], ["f"], name="flat", axes=[2, 3]),
        helper.make_node("Gemm", ["f", "fc", "b"], ["g"], name="head"),
        helper.make_node("Softmax", ["g"], ["y"], name="soft"),
    ]
    stored = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
    inputs = [helper.make_tensor_value_info("image", 1, ["batch", 3, 8, 8])]
    if ir == 3:
        inputs += [helper.make_tensor_value_info(t.name, 1, t.dims) for t in stored]
    outputs = [helper.make_tensor_value_info("y", 1, ["batch", 5])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    helper.set_model_props(proto, {"author": "someone"})
    onnx.checker.check_model(proto)
    return Model(proto, path / "old.onnx", "0" * 64)


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (8, 3), (9, 4), (10, 5)])
def test_an_old_model_answers_as_before_at_opset_13(tmp_path, answers, opset, ir):
    old = old_model(opset, ir, tmp_path)
    new = upgrade(old)
    assert new.opset == 13
    onnx.checker.check_model(new.proto, full_check=True)
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    assert np.allclose(answers(new, x)[0], answers(old, x)[0], atol=1e-6)
    assert [i.name for i in new.proto.graph.input] == ["image"]
    assert [d.dim_param or d.dim_value for d in new.proto.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        8,
        8,
    ]
    assert new.metadata == {"author": "someone"}
    assert {"first", "norm", "head"} <= {node.name for node in new.proto.graph.node}
    assert old.opset == opset


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_newer_model_is_left_as_it_is(model_of, opset):
    model = model_of("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }", opset=opset)
    assert upgrade(model) is model


def test_a_model_that_cannot_be_converted_is_named(tmp_path, monkeypatch):
    def refuse(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError("No Adapter From Version 9 for Frobnicate\nand a second line")

    monkeypatch.setattr(version_converter, "convert_version", refuse)
    with pytest.raises(CrispError, match=r"old\.onnx has opset 9 .* 13: No Adapter .* Frobnicate\. Export it again"):
        upgrade(old_model(9, 4, tmp_path))


def test_local_functions_below_opset_13_are_refused_rather_than_lost(model_of):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) { y = local.Twice(x) }",
        opset=12,
        functions='<domain: "local", opset_import: ["" : 12]> Twice (a) => (b) { b = Add(a, a) }',
    )
    with pytest.raises(CrispError, match="local functions, which cannot be converted"):
        upgrade(model)
