"""The int8 kernels against plain loops over whole numbers, on random layers of every shape the format allows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hybrid_layer import open_session
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from int8_layer import Int8Layer, exact_answer, int8_model, off_by, random_bytes, random_int8_layer

from crisp_onnx.runtime.library import available_isas

ISAS = available_isas("int8") or ("none",)
PATTERNS = ((2, 4), (1, 4), (3, 4), (4, 4), (2, 8), (4, 8), (1, 2), (1, 16), (8, 16), (2, 3), (1, 1), (3, 5))
SLOW_START = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@st.composite
def patterns(draw: st.DrawFn) -> dict[str, int]:
    n, m = draw(st.sampled_from(PATTERNS))
    block = draw(st.sampled_from([b for b in (8, 16, 24, 30, 32, 64) if b % m == 0]))
    rows = draw(st.sampled_from([v for v in (1, 2, 3, 4, 5, 8, 16) if block % v == 0]))
    return {"n": n, "m": m, "block": block, "vector_rows": rows}


@st.composite
def conv_cases(draw: st.DrawFn) -> tuple[Int8Layer, dict[str, np.ndarray], int]:
    """A layer, its feed, and a thread count."""
    pattern = draw(patterns())
    cout, cin = draw(st.integers(1, 50)), draw(st.integers(1, 40) | st.sampled_from([8, 16, 32, 64]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 2)]))
    strides = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 2)]))
    dilations = draw(st.sampled_from([(1, 1), (2, 2), (1, 3)]))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 24)), draw(st.integers(1, 24))
    room = [
        side + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1
        for axis, side in enumerate((height, width))
    ]
    assume(min(room) >= 0)
    out = [space // stride + 1 for space, stride in zip(room, strides, strict=True)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layer = random_int8_layer(
        rng,
        (cout, cin, *kernel),
        **pattern,
        kept=draw(st.integers(1, -(-cin * kernel[0] * kernel[1] // pattern["block"]))),
        op=draw(st.sampled_from(["HybridQConv", "HybridQConvAdd"])),
        strides=strides,
        pads=pads,
        dilations=dilations,
        lower=draw(st.sampled_from([-np.inf, 0.0, -3.0])),
        upper=draw(st.sampled_from([np.inf, 6.0])),
    )
    feed = {"X": random_bytes(rng, (batch, cin, height, width))}
    if layer.op == "HybridQConvAdd":
        feed["Z_in"] = random_bytes(rng, (batch, cout, *out))
    return layer, feed, draw(st.sampled_from([1, 2, 3]))


def is_right(answer: np.ndarray, expected: np.ndarray) -> bool:
    """Within one step everywhere, and equal but for one in a thousand (or one alone)."""
    steps, share = off_by(answer, expected)
    return answer.shape == expected.shape and steps <= 1 and share * expected.size <= max(1, expected.size / 1000)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, **SLOW_START)
@given(case=conv_cases())
def test_convolutions_give_what_whole_numbers_give(
    isa: str, case: tuple[Int8Layer, dict[str, np.ndarray], int], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    layer, feed, threads = case
    answer = open_session(int8_model(layer), library, threads).run(None, feed)[0]
    assert is_right(answer, exact_answer(layer, feed))


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, **SLOW_START)
@given(
    pattern=patterns(),
    cout=st.integers(1, 70),
    cin=st.integers(1, 150),
    lead=st.tuples(st.integers(1, 260)) | st.sampled_from([(1,), (2,), (1, 3), (2, 1, 7)]),
    threads=st.sampled_from([1, 3]),
)
def test_gemms_give_what_whole_numbers_give(
    isa: str, pattern: dict[str, int], cout: int, cin: int, lead: tuple[int, ...], threads: int, library: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(cin)
    layer = random_int8_layer(rng, (cout, cin, 1, 1), **pattern, op="HybridQGemm", lower=-2.0)
    feed = {"X": random_bytes(rng, (*lead, cin))}
    answer = open_session(int8_model(layer, rank=len(lead) + 1), library, threads).run(None, feed)[0]
    assert is_right(answer, exact_answer(layer, feed))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("vector_rows", [1, 2, 4, 8])
def test_strips_of_every_width_give_what_whole_numbers_give(
    isa: str, vector_rows: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(vector_rows)
    layer = random_int8_layer(rng, (16, 32, 1, 1), block=16, vector_rows=vector_rows, kept=1)
    session = open_session(int8_model(layer), library)
    for width in range(1, 200):
        feed = {"X": random_bytes(rng, (1, 32, 1, width))}
        assert is_right(session.run(None, feed)[0], exact_answer(layer, feed)), width


EXTREMES: dict[str, dict[str, Any]] = {
    "weights at their ends": {"values": -127},
    "weights of -128": {"values": -128},
    "zeros at their ends": {"x_zero": 255, "y_zero": 0, "z_zero": 255},
    "zeros at the other ends": {"x_zero": 0, "y_zero": 255, "z_zero": 0},
    "a coarse output": {"y_scale": 1e6},
    "a fine output": {"y_scale": 1e-9},
    "a fine residual": {"z_scale": 1e-12},
    "a coarse residual": {"z_scale": 1e9},
    "tiny scales": {"x_scale": 1e-30, "y_scale": 1e-30, "z_scale": 1e-30},
    "large bias": {"bias": 2**30},
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_scales_zeros_and_weights_give_what_whole_numbers_give(
    isa: str, extreme: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(0)
    usual = random_int8_layer(
        rng, (24, 64, 3, 3), block=16, vector_rows=8, op="HybridQConvAdd", pads=(1, 1, 1, 1), kept=12
    )
    changed = {
        name: np.full_like(array, EXTREMES[extreme].get(name, 0)) if name in EXTREMES[extreme] else array
        for name, array in usual.tensors.items()
    }
    layer = Int8Layer(usual.op, usual.attrs, changed)
    for x in (random_bytes(rng, (1, 64, 9, 7)), np.full((1, 64, 9, 7), 255, np.uint8)):
        feed = {"X": x, "Z_in": random_bytes(rng, (1, 24, 9, 7))}
        answer = open_session(int8_model(layer), library).run(None, feed)[0]
        assert is_right(answer, exact_answer(layer, feed))


@pytest.mark.parametrize("op", ["HybridQConv", "HybridQConvAdd", "HybridQGemm"])
def test_the_kernels_and_the_function_body_agree(op: str, library: Path) -> None:
    rng = np.random.default_rng(3)
    side = 1 if op == "HybridQGemm" else 3
    layer = random_int8_layer(rng, (48, 64, side, side), block=16, vector_rows=8, op=op, lower=0.0, upper=6.0)
    shape = (37, 64) if op == "HybridQGemm" else (2, 64, 12, 12)
    feed = {"X": random_bytes(rng, shape)}
    if op == "HybridQConvAdd":
        feed["Z_in"] = random_bytes(rng, (2, 48, 10, 10))
    model = int8_model(layer, rank=len(shape), body=True)
    body, answer = (open_session(model, kernels).run(None, feed)[0] for kernels in (None, library))
    assert is_right(answer, body)


@pytest.mark.parametrize(("op", "shape"), [("HybridQConv", (2, 64, 28, 28)), ("HybridQGemm", (3, 300, 64))])
def test_results_do_not_depend_on_the_number_of_threads(op: str, shape: tuple[int, ...], library: Path) -> None:
    rng = np.random.default_rng(0)
    side = 3 if op == "HybridQConv" else 1
    layer = random_int8_layer(rng, (256, 64, side, side), block=16, vector_rows=8, op=op)
    feed = {"X": random_bytes(rng, shape)}
    model = int8_model(layer, rank=len(shape))
    answers = [open_session(model, library, threads).run(None, feed)[0] for threads in (1, 2, 4)]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_one_session_may_run_on_eight_threads_at_once(library: Path) -> None:
    rng = np.random.default_rng(0)
    layer = random_int8_layer(rng, (64, 32, 3, 3), block=16, vector_rows=8, pads=(1, 1, 1, 1))
    session = open_session(int8_model(layer), library, threads=2)
    feeds = [{"X": random_bytes(rng, (1, 32, 8 + i % 3, 12))} for i in range(8)]
    expected = [session.run(None, feed)[0] for feed in feeds]

    def repeated(i: int) -> bool:
        return all(np.array_equal(session.run(None, feeds[i])[0], expected[i]) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(repeated, range(8)))


@pytest.mark.parametrize(
    ("tensor", "value", "text"),
    [
        ("x_scale", 0.0, "scales must be positive"),
        ("w_scale", np.nan, "scales must be positive"),
        ("y_scale", np.inf, "scales must be positive"),
        ("y_scale", 1e-25, "too far apart"),
        ("bias", 2**31 - 1, "may not fit 32 bits"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_node_name(tensor: str, value: float, text: str, library: Path) -> None:
    layer = random_int8_layer(np.random.default_rng(0), (16, 64, 1, 1), block=16, vector_rows=8)
    damaged = {**layer.tensors, tensor: np.full_like(layer.tensors[tensor], value)}
    with pytest.raises(Exception, match=f"layer0.*{text}"):
        open_session(int8_model(Int8Layer(layer.op, layer.attrs, damaged)), library)


def test_weights_in_the_padding_of_the_last_block_are_refused(library: Path) -> None:
    layer = random_int8_layer(np.random.default_rng(0), (16, 20, 1, 1), block=16, vector_rows=8, kept=2)
    damaged = layer.tensors["values"].copy()
    damaged[0, 1, :, -1, :, -1] = 1
    changed = Int8Layer(layer.op, layer.attrs, {**layer.tensors, "values": damaged})
    with pytest.raises(Exception, match=r"layer0.*pad the last block"):
        open_session(int8_model(changed), library)


def test_a_residual_inside_the_graph_may_give_its_place_to_the_output(library: Path) -> None:
    rng = np.random.default_rng(8)
    layer = random_int8_layer(rng, (32, 32, 1, 1), block=16, vector_rows=8, op="HybridQConvAdd")
    model = int8_model(layer)
    graph = model.graph
    graph.node[0].input[10] = "inner"
    graph.node[0].output[0] = "sum"
    nodes = [("Identity2", "Z_in", "inner"), ("Identity3", "sum", "Y")]
    flip = onnx.helper.make_tensor("flip", onnx.TensorProto.UINT8, [], [255])
    graph.initializer.append(flip)
    before, after = (onnx.helper.make_node("Sub", ["flip", of], [to], name=name) for name, of, to in nodes)
    kept = graph.node[0]
    del graph.node[:]
    graph.node.extend([before, kept, after])
    feed = {"X": random_bytes(rng, (1, 32, 9, 9)), "Z_in": random_bytes(rng, (1, 32, 9, 9))}
    expected = 255 - exact_answer(layer, {"X": feed["X"], "Z_in": 255 - feed["Z_in"]})
    assert is_right(open_session(model, library).run(None, feed)[0], expected)
