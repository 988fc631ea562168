"""Corrupted layers, sanitizers, many threads and many sessions."""

from __future__ import annotations

import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corrupt import corrupted_runs
from hybrid_layer import Layer, model_of, open_session, random_layer
from kernel_programs import sanitized_library


def test_corrupted_layers_are_refused_by_node_name(library: Path) -> None:
    outcomes = corrupted_runs(library, 400, seed=0)
    assert outcomes["refused at load"] > 100
    assert outcomes["ran"] > 0


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
    for isa, rounds in (("", 8000), ("avx2", 1500), ("portable", 1000)):
        script = [sys.executable, str(Path(__file__).with_name("corrupt.py")), str(library), str(rounds), "7"]
        limited = {**environment, "CRISP_ONNX_ISA": isa}
        done = subprocess.run(script, env=limited, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "refused at load" in done.stdout
