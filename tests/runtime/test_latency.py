"""Latency is measured in turn, ends in time, and says when the machine was too noisy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.model import TensorSpec, load
from crisp_onnx.runtime.latency import interleave, measure_files, seeded_input, side_by_side, summarize

RELU = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu(x) }'


class Clock:
    """A clock that only moves when something is run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, seconds: Iterator[float]) -> Callable[[], object]:
        def body() -> None:
            self.calls.append(name)
            self.now += next(seconds)

        return body


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.parser.parse_model(RELU), str(path))
    return path


def test_runs_alternate_and_each_time_lands_in_its_column() -> None:
    clock = Clock()
    runs = [clock.run("A", cycle([0.002])), clock.run("B", cycle([0.001]))]
    times = interleave(runs, repeats=4, warmup=1, clock=clock)
    assert clock.calls == ["A", "B", *["A", "A", "B", "B"] * 4]
    np.testing.assert_allclose(times, [[2.0, 1.0]] * 4)


def test_measuring_ends_with_the_budget_but_not_under_three_rounds() -> None:
    clock = Clock()
    runs = [clock.run("A", cycle([0.3])), clock.run("B", cycle([0.1]))]
    assert len(interleave(runs, repeats=1000, warmup=2, budget_s=2.0, clock=clock)) == pytest.approx(4, abs=1)
    slow = [clock.run("A", cycle([60.0]))]
    clock.calls.clear()
    assert len(interleave(slow, repeats=1000, warmup=5, budget_s=1.0, clock=clock)) == 3
    assert len(clock.calls) == 7, "one warm-up run already spends the budget"


def test_the_ratio_is_taken_pair_by_pair() -> None:
    drift = np.linspace(1.0, 3.0, 51)  # the machine slows down threefold while B stays twice as fast as A
    timing = summarize(np.stack([2 * drift, drift], axis=1))
    assert timing.ratios[0].median == 1.0
    assert (timing.ratios[1].p10, timing.ratios[1].median, timing.ratios[1].p90) == pytest.approx((2.0, 2.0, 2.0))
    assert timing.sides_ms[0].median == pytest.approx(4.0)
    assert timing.rounds == 51
    assert not timing.noisy
    assert timing.note == ""


def test_a_noisy_machine_is_named_in_a_sentence() -> None:
    rng = np.random.default_rng(0)
    timing = summarize(np.stack([np.full(100, 2.0), rng.uniform(1.0, 3.0, 100)], axis=1))
    assert timing.noisy
    assert "too noisy" in timing.note
    assert "100 rounds" in timing.note


def test_sessions_are_fed_their_own_input(relu: Path) -> None:
    session = ort.InferenceSession(str(relu), providers=["CPUExecutionProvider"])
    feeds = [{"x": np.zeros((n, 3, 8, 8), np.float32)} for n in (1, 2)]
    timing = side_by_side([session, session], feeds, repeats=5, warmup=1)
    assert timing.rounds == 5
    assert all(0 < side.p10 <= side.median <= side.p90 for side in timing.sides_ms)


def test_two_files_are_measured_within_the_budget(relu: Path) -> None:
    timing = measure_files([relu, relu], load(relu).input, batch=2, threads=1, budget_s=0.1)
    assert timing.rounds >= 3
    assert len(timing.sides_ms) == len(timing.ratios) == 2


def test_a_file_that_does_not_open_is_named(relu: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(CrispError, match=r"broken\.onnx is not an ONNX model"):
        measure_files([relu, broken], load(relu).input)


def test_a_file_that_refuses_the_input_is_named(relu: Path) -> None:
    spec = TensorSpec("x", (None, 4, 8, 8), np.dtype(np.float32))
    with pytest.raises(CrispError, match=r"cannot run .*relu\.onnx"):
        measure_files([relu], spec)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.uint8, np.int8, np.int64])
def test_seeded_input_follows_the_spec(dtype: type) -> None:
    spec = TensorSpec("x", (None, 3, None, 8), np.dtype(dtype))
    image = seeded_input(spec, batch=2, size=(16, 16), seed=1)
    assert image.shape == (2, 3, 16, 8)
    assert image.dtype == dtype
    assert np.ptp(image.astype(np.float64)) > 1
    np.testing.assert_array_equal(image, seeded_input(spec, batch=2, size=(16, 16), seed=1))


def test_a_fixed_batch_in_the_spec_wins() -> None:
    spec = TensorSpec("x", (4, 3, 8, 8), np.dtype(np.float32))
    assert seeded_input(spec, batch=1).shape[0] == 4
