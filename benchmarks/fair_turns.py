"""Which way of comparing two models on two threads gives each the time that it has alone?

    python -m benchmarks.fair_turns [--network resnet50]... [--passes 5]

Every way runs in processes of its own, all ways in turn and several times over. A figure is a lower quartile of the
runs: on a shared machine other work only ever adds time. A virtual machine's two cores may share a cache at one moment
and not at the next, which changes all times: passes count for the state that they began and ended in, and not where it
changed. Writes results/fair_turns.json and a table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import MappingProxyType

import click
import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.end_to_end import PATTERNS
from benchmarks.record import record
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.format import Pattern
from crisp_onnx.runtime import library_path
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid
from crisp_onnx.runtime.library import core_distance_ns
from crisp_onnx.runtime.opening import CPU, SLEEP_BETWEEN_RUNS, timing_options
from crisp_onnx.runtime.turns import Run, take_turns, timed, timed_runs

THREADS, QUIET_PERCENTILE = 2, 25
FAR_NS = 150
LAYER = "layer 256 to 256, 1x1 at 14x14"
LAYER_CASE = LayerCase((256, 256, 1, 1), (1, 256, 14, 14), Pattern(2, 4, 16, 8), 4)
ALONE = "alone, in a process of its own"
LIVE = MappingProxyType(
    {  # both sessions alive, a run of each in turn: the entries of their options
        "both alive": (),
        "both alive, their threads sleep between runs": (SLEEP_BETWEEN_RUNS,),
        "both alive, their threads never spin": (("session.intra_op.allow_spinning", "0"),),
    }
)
GLOBAL = "both alive, on the runtime's one global pool"
ANEW = "opened anew for every turn (runtime/turns.py)"
WAYS = (ALONE, *LIVE, GLOBAL, ANEW)


@click.command()
@click.option("--network", "networks", multiple=True, default=("resnet50", "mobilenet_v2"))
@click.option("--passes", default=5, show_default=True)
@click.option("--budget-s", default=2.0, show_default=True, help="Seconds a side and way in each pass.")
def main(networks: tuple[str, ...], passes: int, budget_s: float) -> None:
    """Measure, print and write the table."""
    rows: list[dict[str, object]] = []
    for network in (*networks, LAYER):
        with tempfile.TemporaryDirectory() as name:
            files = _write(network, Path(name))
            found = [(way, *_one_pass(way, files, budget_s)) for _ in range(passes) for way in WAYS]
        rows += [row for state in ("near", "far") for row in _rows(network, state, found)]
    record(
        "fair_turns",
        "What two threads seem to take, by the way of measuring",
        rows,
        notes=[
            "Batch 1, two threads; lower quartiles of the runs, medians of the passes.",
            f"Cores: near where a cache line goes from one to the other and back in under {FAR_NS} ns, else far.",
        ],
    )


def _write(network: str, folder: Path) -> list[Path]:
    """The dense model and ours."""
    files = [folder / "dense.onnx", folder / "hybrid.onnx"]
    if network == LAYER:
        for file, model in zip(files, dense_and_hybrid(LAYER_CASE), strict=True):
            file.write_bytes(model)
        return files
    for file in files:
        model = TOPOLOGIES[network](PATTERNS["V8 1/4"], hybrid=file.stem == "hybrid")
        onnx.save(model, file, save_as_external_data=True, location=f"{file.stem}.data")
    return files


def _rows(network: str, state: str, found: list[tuple[str, str, list[float]]]) -> list[dict[str, object]]:
    """A row for every way that had passes in this state; none where there is no time alone to compare with."""
    passes = {way: [times for name, seen, times in found if (name, seen) == (way, state)] for way in WAYS}
    if not passes[ALONE]:
        return []
    alone = np.median(passes[ALONE], axis=0)
    rows: list[dict[str, object]] = []
    for way, times in passes.items():
        if times:
            dense, ours = np.median(times, axis=0).tolist()
            rows.append({"model": network, "cores": state, "way": way, "dense ms": dense, "ours ms": ours})
            rows[-1] |= {"dense, of alone": dense / alone[0], "ours, of alone": ours / alone[1]}
            rows[-1] |= {"times faster": dense / ours, "passes": len(times)}
    return rows


def _one_pass(way: str, files: list[Path], budget_s: float) -> tuple[str, list[float]]:
    """(near, far or changed; milliseconds of each file), measured `way` in a process of its own, or two."""
    states = [_state()]
    together = [[file] for file in files] if way == ALONE else [files]
    found: list[float] = []
    for group in together:
        call = f"from benchmarks.fair_turns import measure; measure({way!r}, {[str(f) for f in group]}, {budget_s})"
        printed = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True).stdout
        found += json.loads(printed)
        states.append(_state())
    return states[0] if len(set(states)) == 1 else "changed", found


def _state() -> str:
    return "far" if (core_distance_ns(2) or 0) > FAR_NS else "near"


def measure(way: str, files: list[str], budget_s: float) -> None:
    """Print a JSON list: milliseconds of each file."""
    if way == GLOBAL:
        ort.set_global_thread_pool_sizes(THREADS, 1)
    openings = [partial(_opened, Path(file), way) for file in files]
    if way == ANEW:
        rounds = take_turns([timed(opening, threads=2) for opening in openings], budget_s=budget_s)
        times = [np.concatenate(turns) for turns in zip(*rounds, strict=True)]
    elif way == ALONE:
        times = [timed_runs(opening(), budget_s) for opening in openings]
    else:
        times = _run_by_run([opening() for opening in openings], budget_s)
    sys.stdout.write(json.dumps([float(np.percentile(side, QUIET_PERCENTILE)) for side in times]))


def _run_by_run(runs: list[Run], budget_s: float) -> list[np.ndarray]:
    """Each model's second run of every turn: the other has just filled the caches."""
    end, times = time.perf_counter() + budget_s * len(runs), [[] for _ in runs]
    while time.perf_counter() < end:
        for run, own in zip(runs, times, strict=True):
            run()
            start = time.perf_counter()
            run()
            own.append((time.perf_counter() - start) * 1e3)
    return [np.array(own) for own in times]


def _opened(file: Path, way: str) -> Run:
    options = timing_options(THREADS)
    options.use_per_session_threads = way != GLOBAL
    for entry in LIVE.get(way, ()):
        options.add_session_config_entry(*entry)
    options.register_custom_ops_library(str(library_path()))
    session = ort.InferenceSession(str(file), options, providers=[CPU])
    shape = [side if isinstance(side, int) else 1 for side in session.get_inputs()[0].shape]
    return partial(session.run, None, {"x": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)})


if __name__ == "__main__":
    main()
