"""A target that computes in another type than the model says so before any latency."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crisp_onnx.cost import estimate
from crisp_onnx.lowering import load_target, lower
from crisp_onnx.lowering.retyped import retyped
from crisp_onnx.model import Model
from crisp_onnx.report.findings import Estimation
from crisp_onnx.report.target_views import lead_sentences

FLOATS = "(float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,1,1] w> { y = Conv (x, w) }"


def _net(model_of: Callable[..., Model], name: str) -> Model:
    return model_of(FLOATS.replace("float[", f"{name}["))


@pytest.mark.parametrize(
    ("name", "target", "asked", "priced", "why"),
    [
        ("float", "stc_edge_int8", None, ("fp32", "int8"), "the target computes in int8 alone"),
        ("float16", "stc_edge_int8", None, ("fp16", "int8"), "the target computes in int8 alone"),
        ("float", "nvidia_a100", None, ("fp32", "int8"), "the target computes in int8 and fp16; --dtype chooses"),
        ("float", "nvidia_a100", "fp16", ("fp32", "fp16"), "--dtype fp16 was given"),
        (
            "float16",
            "nvidia_a100",
            None,
            ("fp16", "int8"),
            "the target's first type; --dtype fp16 prices it as it is",
        ),
        ("float16", "portable", None, ("fp16", "fp32"), "the target computes in fp32 and int8; --dtype chooses"),
        ("float", "portable", "int8", ("fp32", "int8"), "--dtype int8 was given"),
        ("float16", "nvidia_a100", "fp16", None, ""),
        ("float", "portable", None, None, ""),
    ],
)
def test_a_price_in_another_type_is_named_before_the_latency(
    model_of: Callable[..., Model], name: str, target: str, asked: str | None, priced: tuple[str, str] | None, why: str
) -> None:
    chosen = load_target(target)
    found = estimate(lower(_net(model_of, name), chosen, dtype=asked), chosen)
    lead = lead_sentences(Estimation(found, None, None))
    if priced is None:
        assert found.retyped == ()
        assert len(lead) == 2
        return
    (said,) = found.retyped
    assert said.startswith(f"The model is in {priced[0]} and priced in {priced[1]}, as if ")
    assert why in said
    assert [sentence.startswith("The model is in") for sentence in lead] == [False, True, False]
    assert "dense" in lead[2]


def test_the_products_that_are_priced_in_another_type_are_counted() -> None:
    layers = [("int8", "fp32", True), ("fp32", "fp32", True), ("int8", "fp32", False)]
    assert retyped(layers, ("fp32",), asked=False) == (  # type: ignore[arg-type]
        "1 of 2 products of the model is in int8 and priced in fp32, as if never quantised: "
        "the target computes in fp32 alone",
    )
    assert retyped([("fp32", "int8", False)], ("int8",), asked=False)[0].startswith("The model is in fp32")
