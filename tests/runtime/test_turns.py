"""Sides take turns: in time, in changing order, and never with two sessions alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from crisp_onnx.cost.calibrate.profile import profile_model
from crisp_onnx.format import Pattern
from crisp_onnx.model import load
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.bench import bench
from crisp_onnx.runtime.latency import measure_files
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.layer_times import measure_layer
from crisp_onnx.runtime.profiled import profile_nodes
from crisp_onnx.runtime.turns import FEWEST_RUNS, WARMUP, take_turns, timed, timed_runs

CASE = LayerCase((32, 16, 3, 3), (1, 16, 14, 14), Pattern(), 2, pads=(1, 1, 1, 1))


class Clock:
    """A clock that only moves when a side has its turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def side(self, name: str, seconds: float) -> Callable[[float], str]:
        def turn(_: float) -> str:
            self.calls.append(name)
            self.now += seconds
            return name

        return turn


def test_every_side_has_a_turn_a_round_and_the_order_changes() -> None:
    clock = Clock()
    found = take_turns([clock.side("A", 0.2), clock.side("B", 0.1)], budget_s=9.0, rounds=3, clock=clock)
    assert found == [("A", "B")] * 3
    assert clock.calls == ["A", "B", "B", "A", "A", "B"]


def test_turns_end_with_the_budget_but_not_under_the_fewest_rounds() -> None:
    clock = Clock()
    sides = [clock.side("A", 0.3), clock.side("B", 0.1)]
    assert len(take_turns(sides, budget_s=1.0, rounds=100, clock=clock)) == pytest.approx(5, abs=1)
    assert len(take_turns([clock.side("A", 60.0)], budget_s=1.0, rounds=100, fewest=3, clock=clock)) == 3


def test_a_turn_warms_up_and_times_every_run_after_that() -> None:
    calls: list[float] = []
    times = timed_runs(lambda: calls.append(time.perf_counter()), 0.0)
    assert (len(calls), len(times)) == (WARMUP + FEWEST_RUNS, FEWEST_RUNS)
    slept = timed(lambda: partial(time.sleep, 0.002), threads=2)(0.05)
    assert FEWEST_RUNS <= len(slept) <= 25
    assert np.all(slept >= 2.0)


def test_a_profiled_turn_leaves_the_warm_up_out(library: Path) -> None:
    feed = {"x": np.ones(CASE.input_shape, np.float32)}
    nodes = profile_nodes(dense_and_hybrid(CASE)[1], 0.0, threads=1, feed=feed, kernels=library_path(), fewest=4)
    ((name, node),) = nodes.items()
    assert (name, node.op, len(node.ms)) == ("layer", "HybridConv", 4)
    assert node.output_bytes == 32 * 14 * 14 * 4


@pytest.fixture
def files(tmp_path: Path, library: Path) -> list[Path]:
    paths = [tmp_path / "dense.onnx", tmp_path / "hybrid.onnx"]
    for path, model in zip(paths, dense_and_hybrid(CASE), strict=True):
        proto = onnx.load_from_string(model)
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "n"
        onnx.save(proto, path)
    return paths


def measure_network(files: list[Path]) -> None:
    profile_model(load(files[0]), threads=2, budget_s=0.02)


@pytest.mark.parametrize(
    "measure",
    [
        lambda files: measure_files(files, load(files[0]).input, threads=2, budget_s=0.02),
        lambda files: bench(files[1], threads=(1, 2), batch=(1, 2), per_layer=True, budget_s=0.02),
        lambda files: bench(files[1], files[0], threads=(2,), budget_s=0.02),
        lambda files: measure_layer(CASE, threads=2, budget_s=0.02),
        measure_network,
    ],
    ids=["files", "bench", "bench against a file", "layer", "calibration"],
)
def test_no_measurement_has_two_sessions_alive(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, measure: Callable[[list[Path]], object]
) -> None:
    opened = []

    class Counted(ort.InferenceSession):  # type: ignore[misc]
        alive: ClassVar[WeakSet[Counted]] = WeakSet()

        def __init__(self, *arguments: object, **options: object) -> None:
            assert not self.alive, "another session is alive, and its threads may spin"
            super().__init__(*arguments, **options)
            self.alive.add(self)
            opened.append(self.get_providers())

    monkeypatch.setattr(ort, "InferenceSession", Counted)
    measure(files)
    assert len(opened) >= 2
    assert not Counted.alive
