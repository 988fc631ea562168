"""The amounts that a measured processor's times multiply: what is counted of a layer, and of which not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from crisp_onnx.lowering import lower
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.timing import PARTS, work
from crisp_onnx.model import Model


def layer(model_of: Callable[..., Model], activation: str, *, group: int = 1) -> LoweredOp:
    """A convolution of 32 channels on 10 x 12, with a stride of 2 downwards, and `activation` behind it."""
    model = model_of(
        f"(float[1,32,10,12] x) => (float[1,32,5,12] y) <float[32,{32 // group},3,3] w, float low, float high>"
        f" {{ a = Conv<pads=[1,1,1,1], strides=[2,1], group={group}>(x, w) y = {activation} }}"
    )
    return lower(model, "x86_avx2", dtype="fp32").operators[0]


def amount(op: LoweredOp, part: str) -> float:
    return work(op, 16, 1.0)[PARTS.index(part)]


@pytest.mark.parametrize("group", [1, 32])
def test_a_clamp_goes_over_the_outputs_of_the_runtimes_own_convolutions_again_and_relu_does_not(
    model_of: Callable[..., Model], group: int
) -> None:
    clamped, plain = (layer(model_of, words, group=group) for words in ("Clip(a, low, high)", "Relu(a)"))
    assert amount(clamped, "clamp_byte") == 4 * 32 * 5 * 12 == clamped.output_bytes
    assert amount(plain, "clamp_byte") == 0
    assert amount(clamped, "pass_byte") == amount(plain, "pass_byte") == 0
    assert amount(clamped.model_copy(update={"dtype": "int8"}), "clamp_byte") == 0
    skipped = replace(clamped.seen, nm="skip")
    assert amount(clamped.model_copy(update={"seen": skipped}), "clamp_byte") == 0


def test_every_channel_of_a_convolution_begins_each_row_of_its_outputs_anew(model_of: Callable[..., Model]) -> None:
    assert amount(layer(model_of, "Relu(a)"), "row") == 32 * 5
    assert amount(layer(model_of, "Relu(a)", group=32), "row") == 32 * 5
    product = model_of("(float[1,6] x) => (float[1,5] y) <float[6,5] w> { y = MatMul(x, w) }")
    assert amount(lower(product, "x86_avx2", dtype="fp32").operators[0], "row") == 0
