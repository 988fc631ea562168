"""The torch module: exact names, BatchNorm statistics, masks, copies, and errors that say what is missing."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from crisp_onnx.bridge import missing_operators, to_torch
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model

Parse = Callable[..., Model]

CONV_BN = """
g (float[N,2,4,4] x) => (float[N,3] y)
<float[3,2,1,1] w = {1.,-2.,3.,4.,-5.,6.}, float[3] s = {1.,2.,0.5}, float[3] b = {0.1,0.2,0.3},
 float[3] mean = {0.,0.5,-0.5}, float[3] var = {1.,2.,0.5}, float zero = {0.}>
{
  c = Conv(x, w)
  n = BatchNormalization(c, s, b, mean, var)
  r = Clip(n, zero)
  p = GlobalAveragePool(r)
  y = Flatten(p)
}
"""


@pytest.fixture
def conv_bn(parse: Parse) -> Model:
    model = parse(CONV_BN)
    model.proto.graph.initializer[0].name = model.proto.graph.node[0].input[1] = "conv/w:0.weight"
    return model


def _images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_parameters_bear_the_exact_names_of_the_initializers(conv_bn: Model) -> None:
    module = to_torch(conv_bn)
    assert list(dict(module.named_parameters())) == ["conv/w:0.weight", "s", "b"]
    assert module.statistics == ("mean", "var")
    assert not module.training


def test_names_that_differ_in_a_dot_and_a_slash_stay_apart(parse: Parse) -> None:
    model = parse("""g (float[N,2] x) => (float[N,2] y) <float[2] a = {1.,2.}, float[2] b = {10.,20.}> {
        t = Mul(x, a)
        y = Add(t, b)
    }""")
    graph = model.proto.graph
    for tensor, node, name in zip(graph.initializer, graph.node, ("w.a", "w/a"), strict=True):
        tensor.name = node.input[1] = name
    module = to_torch(model)
    assert set(dict(module.named_parameters())) == {"w.a", "w/a"}
    assert torch.equal(module(torch.ones(1, 2)), torch.tensor([[11.0, 22.0]]))


def test_batch_norm_trains_as_torch_does(conv_bn: Model) -> None:
    module, twin = to_torch(conv_bn), nn.BatchNorm2d(3)
    with torch.no_grad():
        for name, tensor in (("s", twin.weight), ("b", twin.bias)):
            tensor.copy_(dict(module.named_parameters())[name])
        twin.running_mean.copy_(module.get_statistic("mean"))  # type: ignore[union-attr]
        twin.running_var.copy_(module.get_statistic("var"))  # type: ignore[union-attr]
    module.train()
    before = module.run({"x": _images()}, ["c", "n"])
    assert torch.allclose(before["n"], twin(before["c"]), atol=1e-6)
    assert torch.allclose(module.get_statistic("mean"), twin.running_mean, atol=1e-7)  # type: ignore[arg-type]
    assert torch.allclose(module.get_statistic("var"), twin.running_var, atol=1e-7)  # type: ignore[arg-type]


def test_without_momentum_the_statistics_average_all_batches(conv_bn: Model) -> None:
    module, twin = to_torch(conv_bn).train(), nn.BatchNorm2d(3, momentum=None)
    module.bn_momentum = None
    with torch.no_grad():
        for seed in range(3):
            images = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
            twin(module.run({"x": images}, ["c"])["c"])
    assert torch.allclose(module.get_statistic("mean"), twin.running_mean, atol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(module.get_statistic("var"), twin.running_var, atol=1e-6)  # type: ignore[arg-type]


def test_in_eval_mode_statistics_are_frozen_while_gradients_flow(conv_bn: Model) -> None:
    module = to_torch(conv_bn)
    mean = module.get_statistic("mean").clone()
    module(_images()).square().sum().backward()
    assert torch.equal(module.get_statistic("mean"), mean)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_a_mask_removes_weights_exactly_and_lets_every_gradient_through(conv_bn: Model) -> None:
    module, name = to_torch(conv_bn), "conv/w:0.weight"
    weight = dict(module.named_parameters())[name]
    mask = torch.tensor([[1, 0], [0, 1], [1, 1]]).bool().reshape(3, 2, 1, 1)
    module.set_masks({name: mask})
    masked = module.run({"x": _images()}, ["c"])["c"]
    masked.sum().backward()
    expected = torch.nn.functional.conv2d(_images(), weight.detach() * mask)
    assert torch.equal(masked, expected)
    whole = _images().sum((0, 2, 3)).expand(3, 2).reshape(3, 2, 1, 1)
    assert weight.grad is not None and torch.allclose(weight.grad, whole, rtol=1e-5)
    module.clear_masks()
    assert module.masks == {} and not torch.equal(module.run({"x": _images()}, ["c"])["c"], masked)


def test_a_mask_of_the_wrong_shape_or_name_is_refused(conv_bn: Model) -> None:
    module = to_torch(conv_bn)
    with pytest.raises(CrispError, match=r"shape \(2, 2\), not \(3, 2, 1, 1\)"):
        module.set_masks({"conv/w:0.weight": torch.ones(2, 2)})
    with pytest.raises(CrispError, match="no parameter"):
        module.set_masks({"nothing": torch.ones(2)})


def test_copies_and_pickles_answer_alike(conv_bn: Model) -> None:
    module = to_torch(conv_bn)
    module.set_masks({"conv/w:0.weight": torch.rand(3, 2, 1, 1) > 0.5})
    expected = module(_images())
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(_images()), expected)
        assert dict(twin.named_parameters()).keys() == dict(module.named_parameters()).keys()


def test_a_state_dict_loads_into_a_fresh_module(conv_bn: Model) -> None:
    module, fresh = to_torch(conv_bn), to_torch(conv_bn)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(_images()), module(_images()))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        fresh.load_state_dict(module.state_dict() | {"other.weight": torch.ones(1)})


def test_bf16_autocast_and_channels_last_run(conv_bn: Model) -> None:
    module = to_torch(conv_bn).train().to(memory_format=torch.channels_last)
    images = _images().to(memory_format=torch.channels_last)
    exact = module(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(images)
    assert torch.allclose(rough.float(), exact, atol=0.05, rtol=0.05)


def test_all_missing_operators_are_listed_at_once(parse: Parse) -> None:
    model = parse("""g (float[N] x) => (float[N] y) {
        a = Relu(x)
        [first] b = Det(a)
        c = Det(b)
        d = NonZero(c)
        y = Relu(d)
    }""")
    assert missing_operators(model) == {"Det": ("first", "Det_2"), "NonZero": ("NonZero_3",)}
    with pytest.raises(CrispError, match=r"Det \(2 nodes, first: 'first'\), NonZero \(1 node, first: 'NonZero_3'\)"):
        to_torch(model)


def test_an_operator_of_another_domain_is_missing_under_its_full_name(parse: Parse) -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    model.proto.graph.node[0].domain = "com.example"
    assert list(missing_operators(model)) == ["com.example::Relu"]


def test_an_opset_that_is_too_old_is_refused(parse: Parse) -> None:
    with pytest.raises(CrispError, match="opset 11; the bridge knows 13 to"):
        to_torch(parse("g (float[N] x) => (float[N] y) { y = Relu(x) }", opset=11))


def test_a_failure_in_torch_names_the_node_and_the_shapes(conv_bn: Model) -> None:
    with pytest.raises(CrispError, match=r"'Conv_0' \(Conv, opset 17\).*shapes \(1, 5, 4, 4\), \(3, 2, 1, 1\)"):
        to_torch(conv_bn)(torch.zeros(1, 5, 4, 4))


def test_an_unknown_tensor_name_is_refused(conv_bn: Model) -> None:
    with pytest.raises(CrispError, match="no tensor 'nothing'"):
        to_torch(conv_bn).run({"x": _images()}, ["nothing"])


def test_clip_bounds_and_integers_are_no_parameters(conv_bn: Model) -> None:
    assert "zero" not in dict(to_torch(conv_bn).named_parameters())


def test_infinities_in_an_attention_mask_are_no_parameter(parse: Parse) -> None:
    model = parse("g (float[N,2] x) => (float[N,2] y) <float[2] m = {0., 1.}> { y = Add(x, m) }")
    infinite = np.array([0.0, -np.inf], np.float32)
    model.proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(infinite, "m"))
    module = to_torch(model)
    assert not list(module.parameters())
    assert torch.equal(module(torch.zeros(1, 2)), torch.from_numpy(infinite)[None])


def test_only_the_nodes_between_known_and_wanted_tensors_run(model_of: Callable[..., Model]) -> None:
    module = to_torch(
        model_of("(float[N,4] x) => (float[N,4] y) { a = Relu(x) b = Neg(a) c = Add(a, b) d = Exp(b) y = Mul(c, d) }")
    )
    ran: list[str] = []
    run = module._run_guarded
    module._run_guarded = lambda node, *rest: (ran.append(node.op), run(node, *rest))[1]  # type: ignore[method-assign]
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    whole = module.run({"x": x}, ["a", "b", "c", "d", "y"])
    ran.clear()
    assert torch.equal(module.run({"b": whole["b"]}, ["d"])["d"], whole["d"])
    assert ran == ["Exp"]
    ran.clear()
    assert torch.equal(module.run({"a": whole["a"], "b": whole["b"]}, ["y", "b"])["y"], whole["y"])
    assert ran == ["Add", "Exp", "Mul"]
    with pytest.raises(CrispError, match="Inputs 'x' are missing"):
        module.run({"b": whole["b"]}, ["y"])
