"""Rounding in the loop: what a layer sees is what its bytes stand for, and gradients pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.bridge import to_torch
from crisp_onnx.format.node import Grid
from crisp_onnx.model import Model
from crisp_onnx.quantize.noise import LayerPlace, layer_noise
from crisp_onnx.quantize.rounding import on_grid, on_rows
from crisp_onnx.quantize.training import passes


@given(st.floats(1e-4, 10), st.integers(0, 255), st.integers(0, 99))
def test_values_are_those_of_quantize_and_dequantize_and_the_gradient_stops_at_the_ends(
    scale: float, zero: int, seed: int
) -> None:
    scale = float(np.float32(scale))
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal(50).astype(np.float32) * 200 * scale)
    values.requires_grad_()
    seen = on_grid(values, Grid(scale, zero))
    seen.sum().backward()
    real = values.detach().numpy().astype(np.float64)
    bytes_ = np.clip(np.rint(real / scale) + zero, 0, 255)
    inside = (real >= -zero * scale) & (real <= (255 - zero) * scale)
    near_a_tie = np.abs(np.abs(real / scale - np.floor(real / scale)) - 0.5) < 1e-4
    apart = np.abs(seen.detach().numpy() - (bytes_ - zero) * scale)
    assert (apart[~near_a_tie] <= 1e-4 * scale * 255).all()
    assert (
        values.grad is not None and (values.grad.numpy()[inside] == 1).all() and not values.grad.numpy()[~inside].any()
    )


def test_rows_are_whole_steps_zeros_stay_and_gradients_pass() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    weight[1] = 0
    weight[2, 3] = 0
    weight.requires_grad_()
    seen = on_rows(weight)
    seen.sum().backward()
    steps = seen.detach() / (weight.detach().abs().amax(1, keepdim=True) / 127).clamp_min(1e-30)
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert seen[2, 3] == 0 and not seen[1].any()
    assert weight.grad is not None and (weight.grad == 1).all()
    assert torch.allclose(on_rows(weight.t(), 1), seen.t())


def test_a_tensor_is_seen_through_its_lens_by_its_readers_alone(model_of: Callable[..., Model]) -> None:
    module = to_torch(model_of("(float[N,4] x) => (float[N,2] y) <float[4,2] w> { s = Relu(x) y = MatMul(s, w) }"))
    x = torch.randn(3, 4)
    plain = module(x)
    module.set_lenses({"s": lambda value: 2 * value, "w": lambda value: 3 * value})
    assert torch.allclose(module(x), 6 * plain)
    assert torch.allclose(module.run({"x": x}, ["y"])["y"], 6 * plain)
    module.set_lenses({})
    assert torch.equal(module(x), plain)


def test_the_noise_of_a_layer_is_that_of_its_rounded_weight_and_input(model_of: Callable[..., Model]) -> None:
    model = model_of("(float[N,4] x) => (float[N,2] y) <float[4,2] w> { s = Relu(x) y = MatMul(s, w) }")
    module = to_torch(model)
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    place = LayerPlace("layer", "w", "s", "y", 1)
    fine, coarse = (layer_noise(module, [place], {"s": Grid(step, 0)}, x)["layer"] for step in (0.015, 0.5))
    assert 0 < fine < 1e-3 < coarse < 1
    assert layer_noise(module, [place], {}, x) == {}


def test_a_layer_whose_outputs_no_byte_can_tell_apart_is_all_noise(model_of: Callable[..., Model]) -> None:
    module = to_torch(model_of("(float[N,4] x) => (float[N,2] y) <float[4,2] w> { s = Relu(x) y = MatMul(s, w) }"))
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    place = LayerPlace("layer", "w", "s", "y", 1)
    noise = layer_noise(module, [place], {"s": Grid(0.015, 0), "y": Grid(1e4, 128)}, x)
    assert noise["layer"] == pytest.approx(1)


def test_layers_that_do_not_lead_to_the_answers_have_no_noise_in_them(model_of: Callable[..., Model]) -> None:
    text = "(float[N,4] x) => (float[N,2] y, float[N,2] z) <float[4,2] v, float[4,2] w>"
    module = to_torch(model_of(f"{text} {{ y = MatMul(x, v) z = MatMul(x, w) }}"), ("y",))
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    places = [LayerPlace("first", "v", "x", "y", 1), LayerPlace("other", "w", "x", "z", 1)]
    assert list(layer_noise(module, places, {"x": Grid(0.05, 128)}, x)) == ["first"]


def test_a_tenth_of_the_passes_comes_again() -> None:
    assert [passes(epochs) for epochs in (0, 1, 10, 11, 20)] == [0, 1, 1, 2, 2]
