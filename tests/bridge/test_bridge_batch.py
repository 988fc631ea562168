"""How many images the torch module takes at once, and what happens to a last batch that is shorter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from crisp_onnx.bridge import to_torch, usable_batch
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model

Parse = Callable[..., Model]
BOUND = "g (float[4,2,3] x) => (float[4,6] y) <int64[2] s = {4,6}> { a = Abs(x) y = Reshape(a, s) }"
FREE = "g (float[4,2,3] x) => (float[4,6] y) { a = Abs(x) y = Flatten(a) }"
MIXED = "g (float[4,6] x) => (float[4,6] y) { m = ReduceMean<axes=[0]>(x) y = Sub(x, m) }"


def images(count: int, *shape: int) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("text", "batch"), [(BOUND, 4), (FREE, 64), (MIXED, 4)])
def test_a_module_bound_to_its_batch_is_fed_that_many_images(parse: Parse, text: str, batch: int) -> None:
    model = parse(text)
    module = to_torch(model)
    module.register_parameter("any", torch.nn.Parameter(torch.zeros(1)))
    assert usable_batch(module, model.input, 64, fixed=4) == batch
    assert module.takes == (None if batch == 64 else 4)


def test_an_open_batch_is_not_tried(parse: Parse) -> None:
    model = parse("g (float[N,6] x) => (float[N,6] y) { y = Relu(x) }")
    assert usable_batch(to_torch(model), model.input, 64, fixed=None) == 64


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_short_batch_is_filled_up_and_its_answers_alone_come_back(parse: Parse, count: int) -> None:
    module = to_torch(parse(BOUND))
    module.takes = 4
    x = images(count, 2, 3).requires_grad_()
    y = module(x)
    assert torch.equal(y, x.abs().reshape(count, 6))
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, x.detach().sign())
    assert module.run({"x": x}, ["a"])["a"].shape == (count, 2, 3)


def test_more_images_than_the_module_takes_are_refused(parse: Parse) -> None:
    module = to_torch(parse(BOUND))
    module.takes = 4
    for count in (0, 5):
        with pytest.raises(CrispError, match=f"takes 4 images at a time; it was given {count}"):
            module(images(count, 2, 3))
