"""Shape arithmetic on plain numbers gives what the same operators give on tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from torch import Tensor

from crisp_onnx.bridge.execute import run_node
from crisp_onnx.bridge.host import HOST_OPERATORS
from crisp_onnx.bridge.node import Node
from crisp_onnx.bridge.value import Host, to_host, to_tensor

CPU = torch.device("cpu")
few = settings(max_examples=40, deadline=None)
whole = st.integers(-9, 9)
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
UNARY = ("Abs", "Neg", "Floor", "Ceil", "Sqrt")
REDUCTIONS = ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin")


def _agree(op: str, inputs: list[Tensor], *, outputs: int = 1, **attributes: Any) -> None:
    """Run `op` on numbers and on tensors; the first must have stayed on the host."""
    names = tuple(f"i{n}" for n in range(len(inputs)))
    node = Node("node", op, 17, attributes, names, tuple(f"o{n}" for n in range(outputs)))
    on_host = run_node(node, [to_host(t) for t in inputs], CPU)
    assert all(isinstance(value, Host) for value in on_host)
    for numbers, tensor in zip(on_host, run_node(node, inputs, CPU), strict=True):
        got, want = to_tensor(numbers, CPU), to_tensor(tensor, CPU)
        assert got.dtype == want.dtype and got.shape == want.shape
        # Vectorised square roots may be off by one in the last place.
        assert torch.equal(got, want) or (op == "Sqrt" and torch.allclose(got, want, rtol=2e-7))


@st.composite
def _pairs(draw: st.DrawFn) -> list[Tensor]:
    """Two integer or float32 operands that broadcast: vectors of one length, or a scalar or single beside one."""
    length = draw(st.integers(1, 4))
    floats = draw(st.booleans())
    element = st.floats(-9, 9, width=32).filter(lambda v: abs(v) > 0.01) if floats else whole.filter(bool)
    operands = []
    for shape in draw(st.permutations([(length,), draw(st.sampled_from([(), (1,), (length,)]))])):
        values = draw(st.lists(element, min_size=length, max_size=length))
        dtype = torch.float32 if floats else torch.int64
        operands.append(torch.tensor(values[: shape[0]] if shape else values[0], dtype=dtype))
    return operands


@pytest.mark.parametrize("op", BINARY)
@few
@given(operands=_pairs())
def test_binary_operators_agree(op: str, operands: list[Tensor]) -> None:
    _agree(op, operands)


@pytest.mark.parametrize("op", UNARY)
@few
@given(values=st.lists(st.floats(0, 50, width=32), min_size=1, max_size=4))
def test_unary_operators_agree(op: str, values: list[float]) -> None:
    _agree(op, [torch.tensor(values)])


@pytest.mark.parametrize("op", REDUCTIONS)
@few
@given(values=st.lists(whole, min_size=1, max_size=5), keepdims=st.integers(0, 1))
def test_reductions_agree(op: str, values: list[int], keepdims: int) -> None:
    _agree(op, [torch.tensor(values)], keepdims=keepdims)


@few
@given(
    values=st.lists(whole, min_size=2, max_size=6),
    index=st.integers(-2, 1),
    start=st.integers(-7, 7),
    end=st.sampled_from([-2, 0, 3, 2**62]),
    step=st.sampled_from([1, 2]),
)
def test_picking_agrees(values: list[int], index: int, start: int, end: int, step: int) -> None:
    x = torch.tensor(values)
    _agree("Gather", [x, torch.tensor(index)], axis=0)
    _agree("Gather", [x, torch.tensor([index, 0])], axis=0)
    _agree("Slice", [x, *(torch.tensor([v]) for v in (start, end, 0, step))])
    _agree("Concat", [x, x[:1]], axis=0)
    _agree("Split", [x, torch.tensor([1, len(values) - 1])], outputs=2, axis=0)
    _agree("Where", [x > 0, x, -x])
    _agree("And", [x > 0, x < 5])
    _agree("Or", [x > 5, x < 0])
    _agree("Not", [x > 0])
    _agree("Reshape", [x, torch.tensor([-1])])
    _agree("Identity", [x])
    _agree("Squeeze", [x[:1], torch.tensor([0])])
    _agree("Unsqueeze", [x[0], torch.tensor([0])])


@few
@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=4))
@pytest.mark.parametrize("to", [TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL, TensorProto.DOUBLE])
def test_casts_agree(to: int, values: list[float]) -> None:
    _agree("Cast", [torch.tensor(values)], to=to)


def test_every_operator_on_numbers_is_tested_here() -> None:
    named = {"Gather", "Slice", "Concat", "Split", "Where", "And", "Or", "Not", "Reshape", "Identity", "Squeeze"}
    assert set(HOST_OPERATORS) == {*BINARY, *UNARY, *REDUCTIONS, *named, "Unsqueeze", "Cast"}


def test_what_numbers_cannot_express_is_computed_with_tensors() -> None:
    node = Node("node", "Unsqueeze", 17, {}, ("a", "b"), ("o",))
    (result,) = run_node(node, [to_host(torch.tensor([1, 2])), to_host(torch.tensor([0]))], CPU)
    assert isinstance(result, Tensor) and torch.equal(result, torch.tensor([[1, 2]]))
