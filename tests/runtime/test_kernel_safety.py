"""Corrupted layers, sanitizers, many threads and many sessions."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from corrupt import OPERATORS, corrupted_runs
from hybrid_layer import Layer, at_odd_address, model_of, open_session, random_layer, save_at_odd_offsets
from kernel_programs import sanitized_library

from crisp_onnx.runtime.library import available_isas


def test_corrupted_layers_are_refused_by_node_name(library: Path) -> None:
    outcomes = corrupted_runs(library, 500, seed=0)
    assert sum(outcomes[op, "refused at load"] for op in OPERATORS) > 100
    assert all(outcomes[op, "ran"] > 0 for op in OPERATORS)


@pytest.mark.parametrize(
    ("tensor", "index", "value", "text"),
    [
        ("blocks", (0, 0), 1000, "beyond the weight"),
        ("blocks", (0, 0), -1, "ascending"),
        ("indices", (0, 0, 0, 0), 0, "ascending inside a group"),
        ("values", (0, 0, 0, 0, 0), np.nan, "not finite"),
    ],
)
def test_the_error_says_which_tensor_is_wrong(
    tensor: str, index: tuple[int, ...], value: float, text: str, library: Path
) -> None:
    layer = random_layer(np.random.default_rng(0), (32, 32, 3, 3))
    damaged = layer.tensors[tensor].copy()
    damaged[index] = value
    with pytest.raises(Exception, match=f"layer0.*{text}"):
        open_session(model_of(Layer(layer.op, layer.attrs, {**layer.tensors, tensor: damaged})), library)


def test_weights_in_the_padding_of_the_last_block_are_refused(library: Path) -> None:
    layer = random_layer(np.random.default_rng(0), (16, 20, 1, 1), kept=2)
    damaged = layer.tensors["values"].copy()
    damaged[0, 1, :, -1] = 1.0
    with pytest.raises(Exception, match=r"layer0.*pad the last block"):
        open_session(model_of(Layer(layer.op, layer.attrs, {**layer.tensors, "values": damaged})), library)


@pytest.mark.parametrize(("attribute", "value"), [("weight_shape", 2**62), ("weight_shape", -5), ("dilations", 2**62)])
def test_sizes_that_would_overflow_are_refused_where_the_inputs_shape_is_known(
    attribute: str, value: int, library: Path
) -> None:
    layer = random_layer(np.random.default_rng(0), (16, 16, 1, 1))
    sizes = list(layer.attrs[attribute])
    sizes[-2] = value
    model = model_of(Layer(layer.op, {**layer.attrs, attribute: sizes}, layer.tensors))
    for axis, extent in enumerate((1, 16, 20, 21)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent
    with pytest.raises(Exception, match=f"layer0.*{attribute}"):
        open_session(model, library)


STEP = 1 << 20  # the largest dilation and padding
# Kernel, dilations, padding and width that blow a small input up: planes of 2^64 numbers, which wraps to none; of more
# than 32 bits address; an output of more than any memory.
GIANTS = {
    "planes wrap": ((8, 1 << 17), (299593, 1), (STEP, STEP, STEP - 1, STEP), (1 << 26) - 2 * STEP + (1 << 17) - 1),
    "planes are long": ((2, 3), (STEP, STEP), (STEP // 2, STEP, STEP, STEP), 1 << 12),
    "output is large": ((1, 1), (1, 1), (STEP, STEP, STEP, STEP), 9),
}


@pytest.mark.parametrize("isa", available_isas() or ("none",))
@pytest.mark.parametrize("giant", GIANTS)
@pytest.mark.parametrize("vector_rows", [1, 8])
def test_sizes_that_do_not_fit_are_an_error_that_names_the_node(
    isa: str, giant: str, vector_rows: int, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    kernel, dilations, pads, width = GIANTS[giant]
    rng = np.random.default_rng(0)
    layer = random_layer(
        rng, (8, 1, *kernel), n=1, m=1, block=8, vector_rows=vector_rows, kept=1, pads=pads, dilations=dilations
    )
    with pytest.raises(Exception, match=r"layer0.*(too large|allocate memory)"):
        open_session(model_of(layer), library).run(None, {"X": np.zeros((1, 1, 1, width), np.float32)})


@pytest.mark.parametrize("isa", available_isas() or ("none",))
def test_planning_takes_time_in_proportion_to_the_kernels_width(
    isa: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", isa)
    width = 1 << 19  # of a kernel over one pixel; comparing every column with every other would take minutes
    layer = random_layer(
        np.random.default_rng(0), (1, 1, 1, width), n=1, m=1, block=1, vector_rows=1, kept=1,
        pads=(0, width // 2, 0, width // 2),
    )  # fmt: skip
    session = open_session(model_of(layer), library)
    start = time.perf_counter()
    session.run(None, {"X": np.ones((1, 1, 1, 1), np.float32)})
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("name", ["blocks", "indices"])
def test_a_file_that_is_rewritten_under_an_open_session_cannot_lead_the_kernels_astray(
    name: str, library: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    layer = random_layer(rng, (256, 256, 3, 3), kept=32, pads=(1, 1, 1, 1))
    onnx.save(model_of(layer), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=64)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    feed = {"X": rng.standard_normal((1, 256, 14, 14), dtype=np.float32)}
    before = session.run(None, feed)[0]
    stored = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False).graph.initializer
    entries = next({e.key: e.value for e in t.external_data} for t in stored if t.name == name)
    with (tmp_path / "m.data").open("r+b") as file:
        file.seek(int(entries["offset"]))
        file.write(b"\xf0\xff\xff\x0f" * (int(entries["length"]) // 4))
    assert np.array_equal(session.run(None, feed)[0], before)


@pytest.mark.parametrize("op", ["HybridConvAdd", "HybridGemm"])
@pytest.mark.parametrize("gap", [1, 2, 3])
def test_tensors_at_odd_places_of_a_file_or_of_memory_are_read_rightly(
    op: str, gap: int, library: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    layer = random_layer(rng, (32, 32, 1, 1), op=op)
    shape = (2, 32, 5, 7) if op == "HybridConvAdd" else (2, 7, 32)
    model = model_of(layer, rank=len(shape))
    feed = {name: rng.standard_normal(shape, dtype=np.float32) for name in ("X", "Z")[: 1 + (op == "HybridConvAdd")]}
    expected = open_session(model, library).run(None, feed)[0]
    save_at_odd_offsets(model, tmp_path / "m.onnx", gap)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    odd = {name: at_odd_address(array, gap) for name, array in feed.items()}
    assert all(array.ctypes.data % 4 for array in odd.values())
    assert np.array_equal(session.run(None, odd)[0], expected)


def test_a_gemm_without_bias_is_refused_as_its_body_is(library: Path) -> None:
    model = model_of(random_layer(np.random.default_rng(0), (16, 16, 1, 1), op="HybridGemm"), rank=2)
    model.graph.node[0].input[4] = ""
    with pytest.raises(Exception, match=r"layer0.*bias is missing"):
        open_session(model, library)
    with pytest.raises(Exception):  # noqa: B017  # whatever the runtime says of an Add with one operand
        open_session(model, None)


def test_an_unknown_instruction_set_is_refused_at_registration(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", "abacus")
    with pytest.raises(Exception, match="CRISP_ONNX_ISA is 'abacus'"):
        open_session(model_of(random_layer(np.random.default_rng(0), (16, 16, 1, 1))), library)


def test_one_session_may_run_on_eight_threads_at_once(library: Path) -> None:
    rng = np.random.default_rng(0)
    session = open_session(model_of(random_layer(rng, (64, 32, 3, 3), pads=(1, 1, 1, 1))), library, threads=2)
    feeds = [{"X": rng.standard_normal((1, 32, 8 + i % 3, 12), dtype=np.float32)} for i in range(8)]
    expected = [session.run(None, feed)[0] for feed in feeds]

    def repeated(i: int) -> bool:
        return all(np.array_equal(session.run(None, feeds[i])[0], expected[i]) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(repeated, range(8)))


def test_opening_and_closing_many_sessions_does_not_grow_the_process(library: Path) -> None:
    model = model_of(random_layer(np.random.default_rng(0), (128, 128, 3, 3)))
    feed = {"X": np.zeros((1, 128, 6, 6), np.float32)}

    def open_and_close(times: int) -> int:
        for _ in range(times):
            open_session(model, library).run(None, feed)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    settled_kib = open_and_close(200)
    assert open_and_close(800) - settled_kib < 4096


@pytest.mark.slow
def test_ten_thousand_corruptions_pass_the_sanitizers(tmp_path: Path) -> None:
    library, environment = sanitized_library(tmp_path / "build")
    for isa, rounds, operators in (
        *(("", 16000, "all"), ("avx512_vnni", 3000, "all"), ("avx2", 3000, "all"), ("portable", 3000, "all")),
        *(("", 10000, "bytes"), ("avx2", 2000, "bytes"), ("portable", 2000, "bytes")),
    ):
        script = [
            sys.executable,
            str(Path(__file__).with_name("corrupt.py")),
            str(library),
            str(rounds),
            "7",
            operators,
        ]
        limited = {**environment, "CRISP_ONNX_ISA": isa}
        done = subprocess.run(script, env=limited, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "refused at load" in done.stdout
