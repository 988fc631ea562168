"""Sliding windows, padding and resizing against ONNX Runtime over random geometries, and the cases that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.bridge import compare_with_runtime, to_torch
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model

few = settings(max_examples=60, deadline=None)
CHANNELS = 4


def _model(op: str, shape: list[int], constants: list[Any], **attributes: Any) -> Model:
    """One node over x with constants as its further inputs; `None` omits one."""
    names = ["" if value is None else f"c{number}" for number, value in enumerate(constants)]
    stored = [numpy_helper.from_array(v, n) for v, n in zip(constants, names, strict=True) if v is not None]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], name="node", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return Model(proto, Path("one_node.onnx"), "")


def _worst(model: Model) -> float:
    return compare_with_runtime(to_torch(model), model)


@st.composite
def _windows(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    attributes: dict[str, Any] = {
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
    }
    mode = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
    else:
        attributes["auto_pad"] = mode
        attributes["dilations"] = [1] * rank
        attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)]
    shape = [2, CHANNELS, *(draw(st.integers(7, 11)) for _ in range(rank))]
    return {"shape": shape, "kernel": kernel, "attributes": attributes}


@few
@given(case=_windows(), groups=st.sampled_from([1, 2, 4]), bias=st.booleans())
def test_conv_is_that_of_the_runtime(case: dict[str, Any], groups: int, bias: bool) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, CHANNELS // groups, *case["kernel"])).astype(np.float32)
    constants = [weight, rng.standard_normal(8).astype(np.float32)] if bias else [weight]
    assert _worst(_model("Conv", case["shape"], constants, group=groups, **case["attributes"])) < 1e-5


@few
@given(case=_windows(), groups=st.sampled_from([1, 2]), extra=st.integers(0, 1), bias=st.booleans())
def test_conv_transpose_is_that_of_the_runtime(case: dict[str, Any], groups: int, extra: int, bias: bool) -> None:
    attributes, rank = case["attributes"], len(case["kernel"])
    weight = np.random.default_rng(0).standard_normal((CHANNELS, 3, *case["kernel"])).astype(np.float32)
    constants = [weight, np.arange(3 * groups, dtype=np.float32)] if bias else [weight]
    output_padding = [min(extra, stride - 1) for stride in attributes["strides"][:rank]]
    model = _model(
        "ConvTranspose", case["shape"], constants, group=groups, output_padding=output_padding, **attributes
    )  # fmt: skip
    assert _worst(model) < 1e-5


@few
@given(case=_windows(), ceil=st.booleans())
def test_max_pool_is_that_of_the_runtime(case: dict[str, Any], ceil: bool) -> None:
    ceil = ceil and "auto_pad" not in case["attributes"]
    model = _model("MaxPool", case["shape"], [], kernel_shape=case["kernel"], ceil_mode=int(ceil), **case["attributes"])
    assert _worst(model) == 0.0


@few
@given(case=_windows(), ceil=st.booleans(), include=st.booleans())
def test_average_pool_is_that_of_the_runtime(case: dict[str, Any], ceil: bool, include: bool) -> None:
    ceil = ceil and "auto_pad" not in case["attributes"]
    attributes = {**case["attributes"], "count_include_pad": int(include), "ceil_mode": int(ceil)}
    assert _worst(_model("AveragePool", case["shape"], [], kernel_shape=case["kernel"], **attributes)) < 1e-5


@few
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    transform=st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    nearest=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    sizes=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    by_scale=st.booleans(),
)
def test_resize_is_that_of_the_runtime(
    mode: str, transform: str, nearest: str, sizes: tuple[int, int], by_scale: bool
) -> None:
    shape = [2, 3, 6, 8]
    attributes = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": nearest}
    if by_scale:
        scales = np.array([1, 1, (sizes[0] + 1) / 4, (sizes[1] + 1) / 4], np.float32)
        constants: list[Any] = [None, scales]
    else:
        constants = [None, None, np.array([2, 3, *sizes], np.int64)]
    model = _model("Resize", shape, constants, **attributes)
    try:
        assert _worst(model) < 1e-5
    except CrispError as refusal:
        assert "align_corners with a fractional output length" in str(refusal)


@few
@given(
    mode=st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    pads=st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_pad_is_that_of_the_runtime(mode: str, pads: list[int]) -> None:
    constants: list[Any] = [np.array(pads, np.int64)]
    if mode == "constant":
        constants.append(np.array(1.5, np.float32))
    assert _worst(_model("Pad", [5, 5, 6], constants, mode=mode)) == 0.0


@few
@given(
    starts=st.lists(st.integers(-12, 12), min_size=2, max_size=2),
    ends=st.lists(st.sampled_from([-20, -3, -1, 0, 2, 5, 2**62]), min_size=2, max_size=2),
    steps=st.lists(st.sampled_from([-3, -1, 1, 2]), min_size=2, max_size=2),
)
def test_slice_is_that_of_the_runtime(starts: list[int], ends: list[int], steps: list[int]) -> None:
    constants = [np.array(v, np.int64) for v in (starts, ends, [-1, 1], steps)]
    assert _worst(_model("Slice", [2, 7, 9], constants)) == 0.0


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "reason"),
    [
        (
            "MaxPool",
            [],
            {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "dilations": [2, 1]},
            "auto_pad=SAME_UPPER with dilations",
        ),
        ("Resize", [None, np.array([1, 1, 0.5, 0.5], np.float32)], {"mode": "linear", "antialias": 1}, "antialias=1"),
        ("Conv", [np.ones((1, 4, 3, 3), np.float32)], {"kernel_shape": [2, 2]}, r"kernel_shape \[2, 2\]"),
        ("Squeeze", [np.array([1], np.int64)], {}, r"squeezes axes \[1\] of shape"),
        ("Split", [], {"axis": 1, "num_outputs": 6}, "into 6 parts"),
        ("DepthToSpace", [], {"blocksize": 2, "mode": "XYZ"}, "mode=XYZ"),
    ],
)
def test_what_is_not_understood_is_refused_by_node(
    op: str, constants: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    module = to_torch(_model(op, [1, 4, 8, 8], constants, **attributes))
    with pytest.raises(CrispError, match=rf"'node' \({op}, opset 19\).*{reason}"):
        module(torch.zeros(1, 4, 8, 8))
