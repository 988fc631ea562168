"""Latency is told in medians of turns, and said to be noisy where it is."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.model import TensorSpec, load
from crisp_onnx.runtime.latency import measure_files, seeded_input, summarize
from crisp_onnx.runtime.turns import timed

RELU = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu(x) }'


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.parser.parse_model(RELU), str(path))
    return path


def rounds_of(*columns: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.float64], ...]]:
    """A round for every row, in which each side runs three times and takes as long each time."""
    return [tuple(np.full(3, ms) for ms in row) for row in np.stack(columns, axis=1)]


def test_the_ratio_is_taken_round_by_round() -> None:
    drift = np.linspace(1.0, 3.0, 51)  # the machine slows down threefold while B stays twice as fast as A
    timing = summarize(rounds_of(2 * drift, drift))
    assert timing.ratios[0].median == 1.0
    assert (timing.ratios[1].p10, timing.ratios[1].median, timing.ratios[1].p90) == pytest.approx((2.0, 2.0, 2.0))
    assert timing.sides_ms[0].median == pytest.approx(4.0)
    assert timing.rounds == 51
    assert not timing.noisy
    assert timing.note == ""


def test_sides_may_run_more_and_less_often_in_a_turn_and_a_slow_run_among_many_does_not_count() -> None:
    timing = summarize([(np.array([2.0, 2.0, 9.0]), np.array([1.0, 1.0, 1.0, 1.0, 7.0]))] * 4)
    assert timing.ratios[1].median == 2.0
    assert not timing.noisy


def test_a_noisy_machine_is_named_in_a_sentence() -> None:
    rng = np.random.default_rng(0)
    timing = summarize(rounds_of(np.full(100, 2.0), rng.uniform(1.0, 3.0, 100)))
    assert timing.noisy
    assert "too noisy" in timing.note
    assert "100 rounds" in timing.note


def test_a_side_whose_runs_are_mostly_disturbed_is_noisy_though_its_ratio_is_steady() -> None:
    preempted, short = np.array([3.2, 11.0, 11.3, 11.3, 14.6]), np.array([1.1, 1.1, 1.1, 1.2, 1.2])
    timing = summarize([(preempted, short)] * 10)
    assert timing.ratios[1].p10 == timing.ratios[1].p90  # steady, and 3.4 times too high
    assert timing.noisy
    assert "half the runs of one side" in timing.note


def test_one_thread_is_timed_without_what_it_waits_for_other_programs() -> None:
    def run() -> None:
        end = time.process_time() + 0.002
        while time.process_time() < end:
            pass
        time.sleep(0.02)  # stands for the slice of time that another program takes

    assert np.median(timed(lambda: run, threads=1)(0.05)) == pytest.approx(2, rel=0.3)
    assert np.median(timed(lambda: run, threads=2)(0.05)) > 20


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
