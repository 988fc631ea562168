"""Depthwise convolutions, pools and functions of bytes: the kernels against plain loops, and against their bodies."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from byte_layer import (
    Bytes,
    byte_model,
    exact_depthwise,
    greatest_bytes,
    pool_attributes,
)
from hybrid_layer import open_session
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from int8_layer import Tensors, depthwise_attributes, depthwise_tensors, off_by, random_bytes

from crisp_onnx.format import recount
from crisp_onnx.format.operators import DEPTHWISE, MAX_POOL, TABLE
from crisp_onnx.runtime.library import available_isas

ISAS = available_isas("int8") or ("none",)
SLOW_START = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


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


@pytest.mark.parametrize("isa", ISAS)
def test_small_planes_of_every_size_give_what_whole_numbers_give(
    isa: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(0)
    for kernel, pads in (((3, 3), (1, 1, 1, 1)), ((2, 5), (0, 2, 1, 2)), ((1, 1), (0, 0, 0, 0))):
        attributes = depthwise_attributes(3, kernel, (1, 1), pads, (1, 1))
        tensors = depthwise_tensors(rng, 3, kernel)
        opened = open_session(byte_model(DEPTHWISE, attributes, tensors, 4), library, 1)
        for height, width in itertools.product(range(1, 10), (1, 2, 3, 5, 7, 8, 9, 16, 31)):
            x = random_bytes(rng, (1, 3, height, width))
            assert is_right(opened.run(None, {"X": x})[0], exact_depthwise(tensors, attributes, x)), (height, width)


def some_layer(op: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[onnx.ModelProto, Bytes, Bytes]:
    """A model of `op`, its input of this shape, and the answer."""
    x, channels = random_bytes(rng, shape), shape[1]
    if op == TABLE:
        table = rng.permutation(256).astype(np.uint8)
        return byte_model(op, {}, {"table": table}, len(shape)), x, table[x]
    if op == MAX_POOL:
        attributes = pool_attributes((3, 2), (2, 1), (1, 0, 0, 1))
        return byte_model(op, attributes, {}, 4), x, greatest_bytes(attributes, x)
    tensors = depthwise_tensors(rng, channels, (3, 3))
    attributes = depthwise_attributes(channels, (3, 3), (1, 2), (1, 1, 1, 0), (1, 1))
    return byte_model(op, attributes, tensors, 4), x, exact_depthwise(tensors, attributes, x)


OPERATORS = (DEPTHWISE, MAX_POOL, TABLE)
# Divided by channels, of several images and of small planes; not divided; empty.
SHAPES = [(1, 130, 37, 41), (2, 90, 37, 31), (1, 1300, 13, 13), (1, 3, 20, 20), (0, 24, 28, 28)]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_the_body_and_every_number_of_threads_agree(op: str, shape: tuple[int, ...], library: Path) -> None:
    model, x, expected = some_layer(op, shape, np.random.default_rng(1))
    one, *others = (open_session(model, library, threads).run(None, {"X": x})[0] for threads in (1, 2, 3, 8))
    assert is_right(one, expected)
    assert is_right(open_session(model, None).run(None, {"X": x})[0], expected)
    assert all(np.array_equal(one, other) for other in others)


@pytest.mark.parametrize("op", OPERATORS)
def test_one_session_may_run_on_eight_threads_at_once(op: str, library: Path) -> None:
    rng = np.random.default_rng(3)
    model, *_ = some_layer(op, (1, 70, 33, 40), rng)
    session = open_session(model, library, threads=2)
    feeds = [{"X": random_bytes(rng, (1, 70, 33 - i % 3, 40))} for i in range(8)]
    expected = [session.run(None, feed)[0] for feed in feeds]

    def repeated(i: int) -> bool:
        return all(np.array_equal(session.run(None, feeds[i])[0], expected[i]) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(repeated, range(8)))


@settings(max_examples=60, **SLOW_START)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    shape=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    threads=st.sampled_from([1, 2]),
)
def test_a_pool_takes_the_greatest_byte_of_every_window(
    kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...], shape: tuple[int, ...], threads: int,
    library: Path,
) -> None:  # fmt: skip
    pads = tuple(min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads))
    assume(all(shape[2 + i] + pads[i] + pads[2 + i] >= kernel[i] for i in range(2)))
    x, attributes = random_bytes(np.random.default_rng(0), shape), pool_attributes(kernel, strides, pads)
    model = byte_model(MAX_POOL, attributes, {}, 4)
    expected = greatest_bytes(attributes, x)
    for kernels in (None, library):
        assert np.array_equal(open_session(model, kernels, threads).run(None, {"X": x})[0], expected)


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
