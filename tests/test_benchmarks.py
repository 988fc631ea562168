"""Every benchmark at least starts: what it takes from the package is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks.accuracy.public_layout import scrambled
from benchmarks.accuracy.static_pattern import by_place, places
from benchmarks.early_exit import ABSENT, Exit, with_exit
from benchmarks.layers import LayerTime, layer_times
from benchmarks.semi_structured import measured, two_of_four
from crisp_onnx.format import Pattern
from crisp_onnx.lowering.matrix import conv_matrix
from crisp_onnx.masks.scored import score_layer
from crisp_onnx.model import weight_layers
from crisp_onnx.runtime.profiled import NodeTimes

FOLDER = Path(__file__).parents[1] / "benchmarks"
APART = ("peers/worker.py", "torch_pruning_coverage.py", "torch_pruning_curve.py")  # run in the environments of others


def test_every_benchmark_finds_what_it_imports() -> None:
    scripts = [path.relative_to(FOLDER) for path in sorted(FOLDER.rglob("*.py")) if path.name != "__init__.py"]
    names = [".".join(path.with_suffix("").parts) for path in scripts if path.as_posix() not in APART]
    assert len(names) > 20
    # Some are run as scripts of the folder and some as modules of the package, so that both are on the path.
    code = (
        "import importlib, sys\nsys.path[:0] = sys.argv[1:3]\nfor name in sys.argv[3:]: importlib.import_module(name)"
    )
    command = [sys.executable, "-c", code, str(FOLDER.parent), str(FOLDER), *(name for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_codes_layout_judges_a_block_by_the_one_that_a_transposed_reading_meets() -> None:
    scores = np.random.default_rng(0).random((4, 9))
    found = scrambled(scores)
    for row in range(4):
        for column in range(9):
            number = row * 9 + column
            assert found[row, column] == scores[number % 4, number // 4]


def test_a_static_pattern_has_every_column_read_by_as_many_rows_and_every_layer_keeps_the_same_share(model_of) -> None:
    found = places(18, 9)
    assert (np.sort(found, axis=1) == np.arange(9)).all()
    assert set(np.bincount(np.nonzero(found < 3)[1]).tolist()) == {6}
    model = model_of(
        "(float[N,16,8,8] x) => (float[N,32,8,8] y) <float[32,16,3,3] a, float[32,32,3,3] b>"
        "{ t = Conv<pads=[1,1,1,1]>(x, a) y = Conv<pads=[1,1,1,1]>(t, b) }"
    )
    pattern = Pattern(2, 4, 8, 4)
    for layer in weight_layers(model):
        scored = score_layer(layer, by_place(layer, pattern), pattern)
        kept = scored.keep(6).mask
        assert kept.sum() == 32 * 6 * 4
        count = scored.scores.shape[1]
        worth = scored.columns.saliency / scored.columns.cost
        np.testing.assert_allclose(worth, (np.arange(count) + 1) / count, rtol=1e-6)


def test_a_conversion_between_two_layers_counts_half_to_each_and_the_networks_own_to_none() -> None:
    ran = [
        *(("x_QuantizeLinear", "QuantizeLinear", 8), ("conv1_token_1", "QLinearConv", 100), ("Move", "Transpose", 4)),
        *(("conv2", "HybridQConv", 10), ("conv2.sum", "QLinearAdd", 3), ("own", "Transpose", 50), ("gelu3", "Mul", 60)),
        *(("conv4_nchwc", "Conv", 20), ("y_DequantizeLinear", "DequantizeLinear", 2)),
    ]
    nodes = {name: NodeTimes(op, np.array([ms]), 0) for name, op, ms in ran}
    assert layer_times(nodes, frozenset({"own"})) == {
        "conv1": LayerTime("dense int8", 110, 10),
        "conv2": LayerTime("hybrid int8", 15, 2),
        "conv4": LayerTime("dense float32", 22, 2),
    }


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_graph_with_an_exit_answers_as_the_exit_where_it_is_sure_and_else_as_the_whole_graph(
    model_of, answers, threshold
) -> None:
    model = model_of(
        "(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] a, float[6,4,3,3] b, float[5,6] c, float[5] d>"
        "{ t = Conv<pads=[1,1,1,1]>(x, a) u = Relu(t) v = Conv<pads=[1,1,1,1]>(u, b) w = GlobalAveragePool(v)"
        " f = Flatten(w) y = Gemm<transB=1>(f, c, d) }"
    )
    random = np.random.default_rng(0)
    weight, bias = random.standard_normal((5, 4)).astype(np.float32), np.array([0, 0, 0, ABSENT, ABSENT], np.float32)
    session = ort.InferenceSession(with_exit(model, Exit("u", weight, bias), threshold).SerializeToString())
    early = 0
    for number in range(8):
        x = 2 * random.standard_normal((1, 3, 8, 8)).astype(np.float32)
        (whole,), (found,) = answers(model, x), session.run(None, {"x": x})
        pooled = np.maximum(_convolved(x, model), 0).mean((2, 3))
        logits = pooled @ weight.T + bias
        shares = np.exp(logits) / np.exp(logits).sum()
        early += (sure := bool(shares.max() > threshold))
        np.testing.assert_allclose(found, logits if sure else whole, rtol=1e-4, atol=1e-5, err_msg=str(number))
    assert early == {0.0: 8, 1.0: 0}.get(threshold, early)


def _convolved(x: np.ndarray, model) -> np.ndarray:
    """The first convolution of the model, by the sum that it is."""
    weight = model.graph().tensors()["a"].values
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight)


def test_patches_of_every_window_and_stride_are_those_that_the_convolution_reads_and_two_of_four_are_kept() -> None:
    mask = two_of_four((24, 576), "cpu")
    assert (mask.reshape(24, -1, 4).sum(-1) == 2).all()
    for side, stride in ((1, 1), (3, 1), (3, 2)):
        matrix = conv_matrix((32, 64, side, side), (1, 64, 9, 7), stride=(stride, stride), pads=(side // 2,) * 4)
        row = measured(matrix, 2, "bf16", "cpu")  # ends the program where patches give another convolution
        assert row["dense us"] > 0 and row["2:4 us"] is None
        assert row["N"] % 16 == 0 and row["N"] >= 2 * matrix.N
