"""Depthwise convolutions and functions of bytes: the kernels against plain loops, and against their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import pytest
from hybrid_layer import OPSET, open_session
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from int8_layer import Tensors, depthwise_attributes, depthwise_tensors, off_by, random_bytes
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import DOMAIN, VERSION, recount
from crisp_onnx.format.bodies import byte_function
from crisp_onnx.format.operators import DEPTHWISE, TABLE
from crisp_onnx.runtime.library import available_isas

ISAS = available_isas("int8") or ("none",)
SLOW_START = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
Bytes = npt.NDArray[np.uint8]


def byte_model(
    op: str, attributes: Mapping[str, Any], tensors: Tensors, rank: int, *, body: bool = True
) -> onnx.ModelProto:
    node = helper.make_node(op, ["X", *tensors], ["Y"], name="layer0", domain=DOMAIN, **attributes)
    data = [helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * rank) for name in "XY"]
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph([node], "layer", data[:1], data[1:], stored)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [byte_function(op, OPSET)] if body else []
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


def exact_depthwise(tensors: Tensors, attributes: Mapping[str, Any], x: Bytes) -> Bytes:
    """Whole numbers, then one rounding in double precision."""
    top, left, bottom, right = attributes["pads"]
    whole = np.pad(x.astype(np.int64) - int(tensors["x_zero"]), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sh, sw), (dh, dw), (kh, kw) = (attributes[name] for name in ("strides", "dilations", "kernel_shape"))
    out = [
        (side - d * (k - 1) - 1) // s + 1
        for side, d, k, s in zip(whole.shape[2:], (dh, dw), (kh, kw), (sh, sw), strict=True)
    ]
    sums = np.zeros((*x.shape[:2], *out), np.int64) + tensors["bias"].astype(np.int64).reshape(-1, 1, 1)
    for i, j in np.ndindex(kh, kw):
        part = whole[:, :, i * dh : i * dh + sh * (out[0] - 1) + 1 : sh, j * dw : j * dw + sw * (out[1] - 1) + 1 : sw]
        sums += part * tensors["W"][:, 0, i, j].astype(np.int64).reshape(-1, 1, 1)
    scales = tensors["w_scale"].astype(np.float64) * np.float64(tensors["x_scale"]) / np.float64(tensors["y_scale"])
    steps = np.rint(sums * scales.reshape(-1, 1, 1)) + int(tensors["y_zero"])
    return np.clip(steps, 0, 255).astype(np.uint8)


def is_right(answer: Bytes, expected: Bytes) -> bool:
    """Within one step everywhere, and equal but for one in a thousand (or one alone)."""
    steps, share = off_by(answer, expected)
    return answer.shape == expected.shape and steps <= 1 and share * expected.size <= max(1, expected.size / 1000)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, **SLOW_START)
@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    strides=st.tuples(st.integers(1, 3), st.sampled_from([1, 1, 2, 2, 3, 5])),
    dilations=st.tuples(st.integers(1, 2), st.sampled_from([1, 1, 2, 4])),
    pads=st.tuples(*[st.integers(0, 4)] * 4),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**16),
    threads=st.sampled_from([1, 2]),
)
def test_depthwise_convolutions_give_what_whole_numbers_give(
    isa: str, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], pads: tuple[int, ...],
    shape: tuple[int, ...], seed: int, threads: int, library: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    assume(all(shape[2 + i] + pads[i] + pads[2 + i] > dilations[i] * (kernel[i] - 1) for i in range(2)))
    rng = np.random.default_rng(seed)
    tensors = depthwise_tensors(rng, shape[1], kernel)
    attributes = depthwise_attributes(shape[1], kernel, strides, pads, dilations)
    x = random_bytes(rng, shape)
    answer = open_session(byte_model(DEPTHWISE, attributes, tensors, 4), library, threads).run(None, {"X": x})[0]
    assert is_right(answer, exact_depthwise(tensors, attributes, x))


EXTREMES = [
    {"x_scale": 1e-30, "y_scale": 1e-33},
    {"x_scale": 1e-3, "y_scale": 1e-12},  # every sum saturates
    {"x_scale": 1e-12, "y_scale": 1e3},
    {"x_zero": 0, "y_zero": 255},
    {"x_zero": 255, "y_zero": 0},
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("byte", [0, 255])
def test_extreme_scales_zeros_and_bytes_give_what_whole_numbers_give(
    isa: str, extreme: dict[str, float], byte: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    tensors = depthwise_tensors(np.random.default_rng(0), 3, (3, 3), **extreme)
    tensors["W"][0] = -128
    attributes = depthwise_attributes(3, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    x = np.full((1, 3, 9, 21), byte, np.uint8)
    answer = open_session(byte_model(DEPTHWISE, attributes, tensors, 4), library).run(None, {"X": x})[0]
    assert is_right(answer, exact_depthwise(tensors, attributes, x))


@pytest.mark.parametrize("shape", [(2, 24, 28, 28), (0, 24, 28, 28), (1, 24, 7, 7)])
def test_the_kernel_the_body_and_every_number_of_threads_agree(shape: tuple[int, ...], library: Path) -> None:
    rng = np.random.default_rng(1)
    tensors = depthwise_tensors(rng, 24, (3, 3))
    model = byte_model(DEPTHWISE, depthwise_attributes(24, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), tensors, 4)
    x = random_bytes(rng, shape)
    body, one, three = (
        open_session(model, kernels, threads).run(None, {"X": x})[0]
        for kernels, threads in ((None, 1), (library, 1), (library, 3))
    )
    assert np.array_equal(one, three)
    assert is_right(one, body)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(0,), (1,), (63,), (64,), (65,), (3, 5, 7), (2, 90_001)])
def test_a_table_is_looked_up_byte_by_byte(
    isa: str, shape: tuple[int, ...], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(2)
    table, x = rng.permutation(256).astype(np.uint8), random_bytes(rng, shape)
    model = byte_model(TABLE, {}, {"table": table}, len(shape))
    for kernels in (None, library):
        assert np.array_equal(open_session(model, kernels, 2).run(None, {"X": x})[0], table[x])


def _huge_bias(tensors: Tensors) -> None:
    tensors["bias"][:] = 2**31 - 1


def _no_scale(tensors: Tensors) -> None:
    tensors["w_scale"][1] = 0


def _few_biases(tensors: Tensors) -> None:
    tensors["bias"] = tensors["bias"][:-1]


@pytest.mark.parametrize(
    ("damage", "attributes", "text"),
    [
        (_huge_bias, {}, "may not fit 32 bits"),
        (_no_scale, {}, "scales must be positive"),
        (_few_biases, {}, "bias must have a number for every channel"),
        (None, {"group": 2}, "group must be the channels"),
        (None, {"kernel_shape": (3, 5)}, "kernel_shape must be that of W"),
        (None, {"strides": (0, 1)}, "strides is out of range"),
        (None, {"pads": (0, 0, 0, 2**62)}, "pads is out of range"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_node_name(
    damage: Any, attributes: dict[str, Any], text: str, library: Path
) -> None:
    tensors = depthwise_tensors(np.random.default_rng(0), 3, (3, 3))
    if damage:
        damage(tensors)
    given = depthwise_attributes(3, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)) | attributes
    with pytest.raises(Exception, match=f"node 'layer0': .*{text}"):
        open_session(byte_model(DEPTHWISE, given, tensors, 4, body=False), library)


def test_a_table_of_another_length_is_refused(library: Path) -> None:
    model = byte_model(TABLE, {}, {"table": np.zeros(255, np.uint8)}, 2, body=False)
    with pytest.raises(Exception, match="table must have 256 bytes"):
        open_session(model, library)


def test_what_reads_a_file_knows_them_from_hybrid_layers() -> None:
    model = byte_model(TABLE, {}, {"table": np.arange(256).astype(np.uint8)}, 2)
    assert recount(gs.import_onnx(model)) == ()
