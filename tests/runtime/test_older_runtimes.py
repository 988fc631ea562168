"""Compressed files answer in the oldest stock ONNX Runtime as in today's: function bodies inlined, folded, equal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from byte_layer import byte_model, pool_attributes
from hybrid_layer import model_of as float_model
from hybrid_layer import random_layer
from int8_layer import depthwise_attributes, depthwise_tensors, int8_model, off_by, random_bytes, random_int8_layer
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api import compression as compression_module
from crisp_onnx.format import DOMAIN
from crisp_onnx.format.operators import BYTE_OPERATORS, DEPTHWISE, MAX_POOL, OPERATORS, TABLE
from crisp_onnx.model import Model
from crisp_onnx.runtime.latency import measure_files

OLDEST = "1.17"
PYTHON = "CRISP_ONNX_OLDEST_RUNTIME"
"""A Python that has it; without, one is made under build/ from the package index."""
EXPANDING = frozenset({"ScatterElements", "BitShift", "Range", "ReduceProd"})
"""What expands a packed weight: none of it may be left once the file is loaded."""
CLASSES = (0, 2, 4)
ROOT = Path(__file__).parents[2]
BETWEEN_BYTES = """(float[N,3,12,12] image) => (float[N,6] logits)
    <float[32,3,3,3] w0, float[32] b0, float[32,32,1,1] w1, float[32,1,3,3] w2, float[32,32,1,1] w3, float[32] b1,
     float[32,32,3,3] w4, float[6,32] w5, float[6] b5> {
        s0 = Conv <pads: ints = [1,1,1,1]> (image, w0, b0)
        a0 = HardSwish (s0)
        s1 = Conv (a0, w1, b1)
        a1 = HardSwish (s1)
        s2 = Conv <group: int = 32, pads: ints = [1,1,1,1]> (a1, w2, b1)
        a2 = HardSwish (s2)
        s3 = Conv (a2, w3, b1)
        sum = Add (s3, a0)
        a3 = Relu (sum)
        pooled = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a3)
        s4 = Conv <pads: ints = [1,1,1,1]> (pooled, w4, b1)
        a4 = Relu (s4)
        mean = GlobalAveragePool (a4)
        flat = Flatten (mean)
        logits = Gemm <transB: int = 1> (flat, w5, b5)
    }"""


@pytest.fixture(scope="module")
def oldest() -> str:
    """A Python with the oldest ONNX Runtime that files promise to run in."""
    if os.environ.get(PYTHON):
        return os.environ[PYTHON]
    folder = ROOT / "build" / f"onnxruntime-{OLDEST}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        packages = [f"onnxruntime=={OLDEST}.*", "numpy<2"]
        for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", *packages]):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip() or "no reason given").splitlines()[-1]
                pytest.skip(
                    f"no ONNX Runtime {OLDEST} can be had here ({last}); name a Python that has it in ${PYTHON}"
                )
        (folder / "ready").touch()
    return str(python)


def answered(oldest: str, folder: Path, cases: dict[str, dict[str, np.ndarray]]) -> dict[str, tuple[Any, Any]]:
    """By name: what the oldest runtime and today's give for NAME.onnx in `folder`. Nothing that expands may be left."""
    for name, feed in cases.items():
        np.savez(folder / name, **feed)
    script = Path(__file__).with_name("older_runtime.py")
    done = subprocess.run([oldest, str(script), str(folder)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{OLDEST}.")
    found = {}
    for name, feed in cases.items():
        ran = onnx.load(folder / f"{name}.ran.onnx", load_external_data=False)
        left = {node.op_type for node in ran.graph.node if node.domain == DOMAIN or node.op_type in EXPANDING}
        assert not left, f"{name}: {left} run at every inference"
        session = ort.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        with np.load(folder / f"{name}.answers.npz") as stored:
            older = [stored[output.name] for output in session.get_outputs()]
        found[name] = (older, session.run(None, feed))
    return found


def one_operator(op: str, rng: np.random.Generator) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A layer of the operator, with its body, and inputs for it."""
    gemm, add = op.endswith("Gemm"), op.endswith("Add")
    shape = (2, 7, 40) if gemm else (2, 40, 9, 11)
    if op == TABLE:
        model = byte_model(op, {}, {"table": rng.permutation(256).astype(np.uint8)}, 4)
    elif op == MAX_POOL:
        model = byte_model(op, pool_attributes((3, 2), (2, 1), (1, 0, 0, 1)), {}, 4)
    elif op == DEPTHWISE:
        attributes = depthwise_attributes(40, (3, 5), (1, 2), (1, 2, 0, 2), (2, 1))
        model = byte_model(op, attributes, depthwise_tensors(rng, 40, (3, 5)), 4)
    else:
        options: dict[str, Any] = {"op": op} if gemm else {"op": op, "pads": (1, 1, 1, 1)}
        weight = (24, 40, 1, 1) if gemm else (24, 40, 3, 3)
        if OPERATORS[op].element == "uint8":
            model = int8_model(random_int8_layer(rng, weight, block=16, **options), rank=len(shape), body=True)
        else:
            model = float_model(random_layer(rng, weight, **options), rank=len(shape))
    floats = op in OPERATORS and OPERATORS[op].element != "uint8"
    shapes = [shape, *([(2, 24, 9, 11)] if add else [])]
    names = [given.name for given in model.graph.input]
    made = [rng.standard_normal(s, dtype=np.float32) if floats else random_bytes(rng, s) for s in shapes]
    return model, dict(zip(names, made, strict=True))


@pytest.mark.slow
def test_the_body_of_every_operator_is_inlined_folded_and_equal(oldest: str, tmp_path: Path) -> None:
    cases = {}
    for number, op in enumerate([*OPERATORS, *BYTE_OPERATORS]):
        model, cases[op] = one_operator(op, np.random.default_rng(number))
        onnx.save(model, tmp_path / f"{op}.onnx")
    for op, ((older,), (newer,)) in answered(oldest, tmp_path, cases).items():
        assert older.shape == newer.shape and older.dtype == newer.dtype, op
        if newer.dtype == np.uint8:
            steps, share = off_by(older, newer)
            assert steps <= 1 and share <= 0.001, f"{op}: {steps} steps, {share} of the values"
        else:
            assert np.abs(older - newer).max() <= 1e-5 * np.abs(newer).max(), op


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_compressed_files_answer_as_in_todays(
    precision: str, oldest: str, model_of: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression_module, "measure_files", partial(measure_files, budget_s=0.05))
    between = tmp_path / "between.onnx"
    onnx.save(model_of(BETWEEN_BYTES, seed=3).proto, between)
    (tmp_path / "files").mkdir()
    x = np.random.default_rng(0).random((4, 3, 12, 12), dtype=np.float32)
    cases = {}
    for source in (residual_classifier(tmp_path / "residual.onnx"), between):
        recipe = Recipe(
            model=source, classes=CLASSES, sparsity=0.6, epochs=0, precision=precision, target="portable",
            preprocess="unit", output=tmp_path / source.stem,
        )  # fmt: skip
        compress(recipe, data=[pair for pair in coloured_images() if pair[1] in CLASSES])
        shown = onnx.load(tmp_path / source.stem / "model.onnx")
        used = {node.op_type for node in shown.graph.node if node.domain == DOMAIN}
        assert len(used) >= (4 if source is between and precision == "int8" else 2), used
        of_bytes = [out for node in shown.graph.node if node.domain == DOMAIN for out in node.output]
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in of_bytes)
        onnx.save(shown, tmp_path / "files" / f"{source.stem}.onnx")
        cases[source.stem] = {"image": x}
    for name, (older, newer) in answered(oldest, tmp_path / "files", cases).items():
        for first, second in zip(older, newer, strict=True):
            if second.dtype == np.uint8:
                steps, share = off_by(first, second)
                assert steps <= 1 and share <= 0.001, f"{name}: {steps} steps, {share} of the values"
            else:
                assert np.abs(first - second).max() <= (0.01 if precision == "int8" else 1e-5) * np.abs(second).max()
