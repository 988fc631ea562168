"""Stored values that a caller may override stay inputs of the graph, and no constants to any stage."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import helper

from crisp_onnx.bridge import to_torch
from crisp_onnx.bridge.weights_back import write_back
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, tensor_shapes, upgrade, weight_layers
from crisp_onnx.model.overridable import note_on_overrides, overridable
from crisp_onnx.passes import SIMPLIFY, FreeBatch, dense_passes, run_passes
from crisp_onnx.task import read_outputs

TEXT = (
    "(float[N,3,8,8] x) => (float[N,5] y) <float[8,3,3,3] stem, float[8] g, float[8] b, float[8] m, float[8] v,"
    " float[8,8,1,1] w, float[8] wb, float[8,5] fc>"
    "{ [stem] h = Conv(x, stem) n = BatchNormalization(h, g, b, m, v) r = Relu(n) [c] s = Conv(r, w, wb)"
    " p = GlobalAveragePool(s) f = Flatten(p) [fc] y = MatMul(f, fc) }"
)


@pytest.fixture
def with_inputs(model_of):
    """TEXT with the named initializers as inputs of the graph too."""

    def build(*names: str, opset: int = 17, ir: int = 8) -> Model:
        model = model_of(TEXT, opset=opset, v=np.linspace(0.5, 1.5, 8))
        proto = onnx.ModelProto()
        proto.CopyFrom(model.proto)
        proto.ir_version = ir
        for tensor in proto.graph.initializer:
            if tensor.name in names:
                proto.graph.input.insert(0, helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        return Model(proto, model.path, model.sha256)

    return build


def run(model: Model, **values: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, values)[0])


def overrides_of(model: Model) -> set[str]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x"]
    return {value.name for value in session.get_overridable_initializers()}


IMAGE = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
SETS = [("w",), ("wb",), ("fc",), ("g", "v"), ("b", "m"), ("stem", "w", "fc")]


@pytest.mark.parametrize("names", SETS)
@pytest.mark.parametrize("opset", [9, 17])
def test_every_pass_leaves_the_interface_and_what_an_override_does(with_inputs, names, opset):
    model = with_inputs(*names, opset=opset)
    done = upgrade(model)
    for item in (*SIMPLIFY, FreeBatch(), *dense_passes(Plan())):
        graph = done.graph()
        run_passes((item,), graph)
        done = done.with_graph(graph)
    onnx.checker.check_model(done.proto)
    assert overrides_of(done) == set(names)
    defaults = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in overridable(model.proto).items()}
    others = {name: (array + 0.25).astype(np.float32) for name, array in defaults.items()}
    for values in ({}, others):
        assert np.allclose(run(done, x=IMAGE, **values), run(model, x=IMAGE, **values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("names", SETS)
def test_layers_that_read_them_are_listed_with_the_reason_and_are_not_pruned(with_inputs, names):
    model = with_inputs(*names)
    layers = weight_layers(model, tensor_shapes(model))
    assert [layer.name for layer in layers] == ["stem", "c", "fc"]
    for layer in layers:
        given = [name for name in names if name in (layer.weight, {"c": "wb"}.get(layer.name))]
        assert ("which a caller may override" in layer.obstacle) == bool(given)
    assert read_outputs(model, tensor_shapes(model)).heads[0].classifier == ("fc",)


@pytest.mark.parametrize("names", SETS)
def test_the_bridge_computes_with_them_and_neither_learns_nor_moves_them(with_inputs, names):
    model = with_inputs(*names)
    module = to_torch(model)
    import torch

    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(IMAGE)).numpy(), run(model, x=IMAGE), atol=1e-5)
    assert not set(names) & {name for name, _ in module.named_parameters()}
    module.train()
    for parameter in module.parameters():
        parameter.data += 0.1
    module(torch.from_numpy(IMAGE))
    module.eval()
    after = write_back(module, model)
    assert overrides_of(after) == set(names)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in after.proto.graph.initializer}
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}
    assert all(np.array_equal(stored[name], before[name]) for name in names)
    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(IMAGE)).numpy(), run(after, x=IMAGE), atol=1e-4)


def test_up_to_ir_3_inputs_of_initializers_are_no_interface(with_inputs):
    model = with_inputs("w", "fc", opset=8, ir=3)
    assert (overridable(model.proto), note_on_overrides(model.proto)) == ({}, "")
    assert overrides_of(model) == set()
    graph = model.graph()
    assert [tensor.name for tensor in graph.inputs] == ["x"]
    assert isinstance(graph.tensors()["w"], gs.Constant)


def test_where_all_are_inputs_it_is_an_exporters_habit_and_is_said(with_inputs):
    model = with_inputs("stem", "g", "b", "m", "v", "w", "wb", "fc")
    assert overridable(model.proto) == {}
    assert note_on_overrides(model.proto).startswith("All 8 stored tensors of the file are inputs")
    assert "may override" in note_on_overrides(with_inputs("w", "wb", "g", "b").proto)
    assert "'w', 'wb', 'g' and 1 more" not in note_on_overrides(with_inputs("w").proto)
    assert [layer.obstacle for layer in weight_layers(model)][1:] == ["", ""]
