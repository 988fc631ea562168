"""Weights that hide behind nodes are found, and every weight goes back into the graph bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from crisp_onnx.bridge import compare_with_runtime, to_torch, write_back
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load

Parse = Callable[..., Model]
REAL_MODELS = ("resnet18w32_cifar100", "mobilenetv1_imagenet", "mobilenetv2_imagenet")

HIDDEN = {
    "Constant": "w = Constant<value = float[2,3] {1.,2.,3.,4.,5.,6.}>()",
    "Identity": "w = Identity(stored)",
    "Transpose": "w = Transpose<perm = [1,0]>(turned)",
    "DequantizeLinear": "w = DequantizeLinear<axis = 1>(whole, scales, zeros)",
    "ConstantOfShape": "w = ConstantOfShape<value = float[1] {0.5}>(lengths)",
    "Unsqueeze and Squeeze": "u = Unsqueeze(stored, axis) w = Squeeze(u, axis)",
}
STORED = """<
    float[2,3] stored = {1.,2.,3.,4.,5.,6.}, float[3,2] turned = {1.,4.,2.,5.,3.,6.}, int64[2] lengths = {2,3},
    int8[2,3] whole = {1,2,3,4,5,6}, float[3] scales = {0.5,1.,2.}, int8[3] zeros = {0,1,-1}, int64[1] axis = {0}
>"""


@pytest.mark.parametrize("way", HIDDEN)
def test_a_hidden_weight_becomes_a_parameter_and_then_an_initializer(parse: Parse, way: str) -> None:
    model = parse(f"g (float[N,2] x) => (float[N,3] y) {STORED} {{ {HIDDEN[way]} y = MatMul(x, w) }}")
    module = to_torch(model)
    assert [name for name, _ in module.named_parameters()] == ["w"]
    assert compare_with_runtime(module, model) < 1e-6
    with torch.no_grad():
        next(module.parameters()).mul_(3)
    written = write_back(module, model)
    onnx.checker.check_model(written.proto)
    assert [node.op_type for node in written.proto.graph.node] == ["MatMul"]
    assert compare_with_runtime(module, written) < 1e-6


def test_parameters_tied_by_the_exporter_through_identity_come_apart(parse: Parse) -> None:
    model = parse("""g (float[N,2] x) => (float[N,2] y) <float[2] shared = {1.,2.}> {
        own = Identity(shared)
        t = Mul(x, shared)
        y = Add(t, own)
    }""")
    module = to_torch(model)
    parameters = dict(module.named_parameters())
    assert set(parameters) == {"shared", "own"}
    with torch.no_grad():
        parameters["own"].zero_()
    assert torch.equal(module(torch.ones(1, 2)), torch.tensor([[1.0, 2.0]]))


def test_statistics_stored_once_for_several_uses_come_apart(parse: Parse) -> None:
    model = parse("""g (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[2] zero = {0.,0.}, float[2] one = {1.,1.}> {
        a = BatchNormalization(x, one, zero, zero, one)
        y = BatchNormalization(a, one, zero, zero, one)
    }""")
    module = to_torch(model).train()
    assert set(dict(module.named_parameters())) == {"zero", "one"}
    assert set(module.statistics) == {
        "a.running_mean", "a.running_var", "y.running_mean", "y.running_var"
    }  # fmt: skip
    module(torch.randn(8, 2, 3, 3) + 5)
    module.eval()
    assert compare_with_runtime(module, write_back(module, model)) < 1e-5


def test_untouched_float16_weights_return_bit_for_bit(parse: Parse) -> None:
    model = parse("g (float16[N,2] x) => (float16[N,2] y) <float16[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }")
    awkward = np.array([[0.1, -0.0], [6e-8, 65504.0]], np.float16)
    model.proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(awkward, "w"))
    written = numpy_helper.to_array(write_back(to_torch(model), model).proto.graph.initializer[0])
    assert written.tobytes() == awkward.tobytes() and written.dtype == np.float16


def test_bfloat16_weights_return_bit_for_bit(parse: Parse) -> None:
    model = parse("""g (float[N,2] x) => (float[N,2] y) <bfloat16[2,2] w = {16256,16384,16448,48896}> {
        b = Cast<to = 16>(x)
        c = MatMul(b, w)
        y = Cast<to = 1>(c)
    }""")
    before = model.proto.graph.initializer[0]
    after = write_back(to_torch(model), model).proto.graph.initializer[0]
    assert after.data_type == onnx.TensorProto.BFLOAT16
    assert numpy_helper.to_array(after).tobytes() == numpy_helper.to_array(before).tobytes()


def test_masked_weights_are_written_as_plain_zeros(parse: Parse) -> None:
    model = parse("g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {-1.,2.,-3.,4.}> { y = MatMul(x, w) }")
    module = to_torch(model)
    module.set_masks({"w": torch.tensor([[False, True], [True, False]])})
    written = write_back(module, model)
    stored = numpy_helper.to_array(written.proto.graph.initializer[0])
    assert stored.tobytes() == np.array([[0.0, 2.0], [-3.0, 0.0]], np.float32).tobytes()
    images = torch.randn(4, 2)
    assert torch.equal(to_torch(written)(images), module(images))


def test_a_module_of_another_model_is_refused(parse: Parse) -> None:
    one = parse("g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1.,2.,3.,4.}> { y = MatMul(x, w) }")
    other = parse("g (float[N,2] x) => (float[N,2] y) <float[2,2] v = {1.,2.,3.,4.}> { y = MatMul(x, v) }")
    with pytest.raises(CrispError, match="no constant 'w'"):
        write_back(to_torch(one), other)


@pytest.mark.parametrize("name", REAL_MODELS)
def test_real_models_agree_with_the_runtime_and_return_bit_for_bit(shared_data: Path, name: str) -> None:
    model = load(shared_data / "models" / f"{name}.onnx")
    module = to_torch(model)
    assert compare_with_runtime(module, model, size=(64, 64)) < 1e-5
    written = {t.name: numpy_helper.to_array(t) for t in write_back(module, model).proto.graph.initializer}
    for tensor in model.proto.graph.initializer:
        assert written[tensor.name].tobytes() == numpy_helper.to_array(tensor).tobytes()
