"""The kernels against the function body in a stock runtime, on random layers of every shape the format allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hybrid_layer import Layer, model_of, open_session, random_layer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from crisp_onnx.runtime.library import available_isas

ISAS = available_isas() or ("none",)
TOLERANCE = 1e-5
PATTERNS = ((1, 4), (2, 4), (3, 4), (2, 8), (4, 4), (1, 2), (1, 16))
SLOW_START = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@st.composite
def patterns(draw: st.DrawFn) -> dict[str, int]:
    n, m = draw(st.sampled_from(PATTERNS))
    block = draw(st.sampled_from([b for b in (8, 16, 32, 64) if b % m == 0]))
    rows = draw(st.sampled_from([v for v in (1, 2, 4, 8, 16) if block % v == 0]))
    return {"n": n, "m": m, "block": block, "vector_rows": rows}


@st.composite
def conv_cases(draw: st.DrawFn) -> tuple[Layer, dict[str, np.ndarray], int]:
    """A layer, its feed, and a thread count."""
    pattern = draw(patterns())
    # Taps that end with a block are read where the input lies, the others are packed first.
    cout, cin = draw(st.integers(1, 80)), draw(st.integers(1, 70) | st.sampled_from([8, 16, 32, 64]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (1, 3), (7, 1)]))
    strides = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 2)]))
    dilations = draw(st.sampled_from([(1, 1), (2, 2), (1, 3)]))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    batch, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    room = [
        side + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1
        for axis, side in enumerate((height, width))
    ]
    assume(min(room) >= 0)
    out = [space // stride + 1 for space, stride in zip(room, strides, strict=True)]
    columns = -(-cin * kernel[0] * kernel[1] // pattern["block"])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layer = random_layer(
        rng,
        (cout, cin, *kernel),
        **pattern,
        kept=draw(st.integers(1, columns)),
        op=draw(st.sampled_from(["HybridConv", "HybridConvAdd"])),
        strides=strides,
        pads=pads,
        dilations=dilations,
        lower=draw(st.sampled_from([-np.inf, 0.0, -3.0])),
        upper=draw(st.sampled_from([np.inf, 6.0])),
    )
    feed = {"X": rng.standard_normal((batch, cin, height, width), dtype=np.float32)}
    if layer.op == "HybridConvAdd":
        feed["Z"] = rng.standard_normal((batch, cout, *out), dtype=np.float32)
    return layer, feed, draw(st.sampled_from([1, 2, 3]))


def relative_difference(answer: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest answer, or over 1 where all are smaller."""
    return float(np.abs(answer - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, **SLOW_START)
@given(case=conv_cases(), inner_residual=st.booleans())
def test_convolutions_give_the_answers_of_the_function_body(
    isa: str,
    case: tuple[Layer, dict[str, np.ndarray], int],
    inner_residual: bool,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    layer, feed, threads = case
    model = model_of(layer, inner_residual=inner_residual)
    expected = open_session(model, None).run(None, feed)[0]
    answer = open_session(model, library, threads).run(None, feed)[0]
    assert answer.shape == expected.shape
    # What a sum in another order differs by goes by the sums, of which the bounds may leave little.
    free = replace(layer, attrs={**layer.attrs, "lower": -np.inf, "upper": np.inf})
    unbounded = model_of(free, inner_residual=inner_residual)
    largest = max(1.0, np.abs(open_session(unbounded, None).run(None, feed)[0]).max())
    assert np.abs(answer - expected).max() <= TOLERANCE * largest


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("vector_rows", [1, 2, 4, 8])
def test_strips_of_every_width_give_the_answers_of_the_function_body(
    isa: str, vector_rows: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(vector_rows)
    model = model_of(random_layer(rng, (16, 32, 1, 1), vector_rows=vector_rows, kept=1))
    stock, native = open_session(model, None), open_session(model, library)
    for width in range(1, 270):
        feed = {"X": rng.standard_normal((1, 32, 1, width), dtype=np.float32)}
        expected, answer = (opened.run(None, feed)[0] for opened in (stock, native))
        assert relative_difference(answer, expected) <= TOLERANCE, width


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("vector_rows", [1, 2, 4, 8])
@pytest.mark.parametrize(("n", "m", "block"), [(2, 4, 16), (2, 4, 8), (1, 4, 32), (2, 8, 64), (4, 4, 16), (3, 4, 16)])
def test_every_number_of_rows_of_a_gemm_gives_the_answers_of_the_function_body(
    isa: str, vector_rows: int, n: int, m: int, block: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(vector_rows)
    pattern = {"n": n, "m": m, "block": block, "vector_rows": vector_rows}
    model = model_of(random_layer(rng, (50, 150, 1, 1), **pattern, op="HybridGemm"), rank=2)
    stock, native = open_session(model, None), open_session(model, library)
    for rows in (*range(1, 34), 99, 197):
        feed = {"X": rng.standard_normal((rows, 150), dtype=np.float32)}
        expected, answer = (opened.run(None, feed)[0] for opened in (stock, native))
        assert relative_difference(answer, expected) <= TOLERANCE, rows


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("vector_rows", [1, 2, 4, 8])
def test_the_last_panel_of_rows_may_have_other_strips_than_the_others(
    isa: str, vector_rows: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(vector_rows)
    model = model_of(random_layer(rng, (40, 48, 1, 1), vector_rows=vector_rows, op="HybridGemm"), rank=2)
    stock, native = open_session(model, None), open_session(model, library)
    for rows in range(180, 420):  # two panels, and four
        feed = {"X": rng.standard_normal((rows, 48), dtype=np.float32)}
        expected, answer = (opened.run(None, feed)[0] for opened in (stock, native))
        assert relative_difference(answer, expected) <= TOLERANCE, rows


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("vector_rows", [1, 2, 4, 8])
def test_convolutions_of_a_single_position_add_their_residual(
    isa: str, vector_rows: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(vector_rows)
    layer = random_layer(rng, (50, 70, 1, 1), vector_rows=vector_rows, op="HybridConvAdd", upper=1.0)
    feed = {name: rng.standard_normal((3, side, 1, 1), dtype=np.float32) for name, side in (("X", 70), ("Z", 50))}
    expected, answer = (open_session(model_of(layer), kernels).run(None, feed)[0] for kernels in (None, library))
    assert relative_difference(answer, expected) <= TOLERANCE


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pads", [(1, 1, 0, 0), (1, 0, 0, 0), (0, 2, 0, 1), (0, 0, 1, 1), (2, 2, 2, 2)])
def test_a_strided_window_over_a_single_position_may_read_padding_alone(
    isa: str, pads: tuple[int, ...], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(7)
    layer = random_layer(rng, (33, 16, 1, 1), strides=(5, 5), pads=pads)
    feed = {"X": rng.standard_normal((2, 16, 1, 1), dtype=np.float32)}
    expected, answer = (open_session(model_of(layer), kernels).run(None, feed)[0] for kernels in (None, library))
    assert answer.shape == (2, 33, 1, 1)
    assert relative_difference(answer, expected) <= TOLERANCE


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, **SLOW_START)
@given(
    pattern=patterns(),
    cout=st.integers(1, 90),
    cin=st.integers(1, 300),
    lead=st.tuples(st.integers(1, 260)) | st.sampled_from([(1,), (2,), (1, 3), (2, 5), (2, 1, 7)]),
    threads=st.sampled_from([1, 2, 3]),
)
def test_gemm_gives_the_answers_of_the_function_body(
    isa: str, pattern: dict[str, int], cout: int, cin: int, lead: tuple[int, ...], threads: int, library: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(cin)
    layer = random_layer(rng, (cout, cin, 1, 1), **pattern, op="HybridGemm", lower=-2.0)
    model = model_of(layer, rank=len(lead) + 1)
    feed = {"X": rng.standard_normal((*lead, cin), dtype=np.float32)}
    expected = open_session(model, None).run(None, feed)[0]
    answer = open_session(model, library, threads).run(None, feed)[0]
    assert relative_difference(answer, expected) <= TOLERANCE


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pads", [(0, 1, 0, 1), (3, 0, 3, 0), (0, 0, 0, 0)])
def test_columns_that_pad_the_last_block_read_where_the_others_do(
    isa: str, pads: tuple[int, int, int, int], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(6)
    model = model_of(random_layer(rng, (16, 4, 1, 1), pads=pads))  # 4 of the 16 columns of its block are channels
    x = rng.standard_normal((1, 4, 6, 16), dtype=np.float32)
    x[:, :, 2, 5] = np.nan
    expected, answer = (open_session(model, kernels).run(None, {"X": x})[0] for kernels in (None, library))
    assert np.array_equal(np.isnan(answer), np.isnan(expected))
    assert np.isnan(answer).sum() == 16


@pytest.mark.parametrize(("op", "shape"), [("HybridConv", (2, 64, 28, 28)), ("HybridGemm", (3, 300, 64))])
def test_results_do_not_depend_on_the_number_of_threads(op: str, shape: tuple[int, ...], library: Path) -> None:
    rng = np.random.default_rng(0)
    side = 3 if op == "HybridConv" else 1
    layer = random_layer(rng, (256, 64, side, side), pads=(1, 1, 1, 1), op=op)
    feed = {"X": rng.standard_normal(shape, dtype=np.float32)}
    model = model_of(layer, rank=len(shape))
    answers = [open_session(model, library, threads).run(None, feed)[0] for threads in (1, 2, 4)]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [233, 246])  # panels that end inside a vector of 4, 8 and 16
def test_no_thread_writes_beyond_its_panel_of_rows(
    isa: str, rows: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    rng = np.random.default_rng(6)
    model = model_of(random_layer(rng, (64, 200, 1, 1), kept=12, vector_rows=2, op="HybridGemm"), rank=2)
    feed = {"X": rng.standard_normal((rows, 200), dtype=np.float32)}
    expected = open_session(model, library).run(None, feed)[0]
    together = open_session(model, library, 2)
    for _ in range(100):
        together.run(None, {"X": feed["X"] * 2})
        assert np.array_equal(together.run(None, feed)[0], expected)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_no_work_is_left_over_where_threads_begin_inside_a_packed_panel(library: Path, threads: int) -> None:
    rng = np.random.default_rng(5)
    layer = random_layer(rng, (512, 512, 3, 3), kept=18, strides=(2, 2), pads=(1, 1, 1, 1))
    feed = {"X": rng.standard_normal((3, 512, 14, 14), dtype=np.float32)}
    alone, together = (open_session(model_of(layer), library, count) for count in (1, threads))
    expected = alone.run(None, feed)[0]
    for _ in range(5):
        together.run(None, {"X": feed["X"] * 2})  # leaves other numbers in the memory that an output may get
        assert np.array_equal(together.run(None, feed)[0], expected)


def test_one_session_serves_inputs_of_changing_size(library: Path) -> None:
    rng = np.random.default_rng(1)
    layer = random_layer(rng, (32, 16, 3, 3), pads=(1, 1, 1, 1))
    stock, native = open_session(model_of(layer), None), open_session(model_of(layer), library)
    for side in (9, 30, 9, 17):
        feed = {"X": rng.standard_normal((1, 16, side, side), dtype=np.float32)}
        expected, answer = (s.run(None, feed)[0] for s in (stock, native))
        assert relative_difference(answer, expected) <= TOLERANCE


def test_an_empty_batch_gives_an_empty_answer(library: Path) -> None:
    layer = random_layer(np.random.default_rng(2), (16, 16, 3, 3))
    answer = open_session(model_of(layer), library).run(None, {"X": np.zeros((0, 16, 8, 8), np.float32)})[0]
    assert answer.shape == (0, 16, 6, 6)


@pytest.mark.parametrize("shape", [(0, 32), (2, 0, 32), (0, 3, 32), (3, 0, 1, 32), (0, 0, 3, 32)])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_gemm_of_an_empty_input_gives_an_empty_answer_of_its_shape(
    shape: tuple[int, ...], is_known: bool, library: Path
) -> None:
    model = model_of(random_layer(np.random.default_rng(2), (24, 32, 1, 1), op="HybridGemm"), rank=len(shape))
    for axis, extent in enumerate(shape if is_known else ()):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent
    for kernels in (None, library):
        answer = open_session(model, kernels).run(None, {"X": np.zeros(shape, np.float32)})[0]
        assert answer.shape == (*shape[:-1], 24)


def test_a_missing_bias_counts_as_zero(library: Path) -> None:
    rng = np.random.default_rng(3)
    layer = random_layer(rng, (16, 16, 1, 1), op="HybridConvAdd")
    zero = Layer(layer.op, layer.attrs, {**layer.tensors, "bias": np.zeros(16, np.float32)})
    without = model_of(layer)
    without.graph.node[0].input[4] = ""
    feed = {name: rng.standard_normal((1, 16, 4, 4), dtype=np.float32) for name in ("X", "Z")}
    expected, answer = (open_session(model, library).run(None, feed)[0] for model in (model_of(zero), without))
    assert np.array_equal(answer, expected)


def test_the_shape_of_a_layer_is_known_to_the_operators_after_it(library: Path, tmp_path: Path) -> None:
    layer = random_layer(np.random.default_rng(4), (24, 8, 3, 3), strides=(2, 2), pads=(1, 0, 1, 0))
    model = model_of(layer)
    for axis, extent in enumerate((1, 8, 20, 21)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent
    model.graph.output[0].type.ClearField("tensor_type")
    model.graph.output[0].type.tensor_type.elem_type = 1
    session: ort.InferenceSession = open_session(model, library)
    assert session.get_outputs()[0].shape == [1, 24, 10, 10]
