"""One side of the comparison: opens a model in one runtime and times a run for every line on standard input.

    python worker.py RUNTIME MODEL THREADS        RUNTIME: ours, onnxruntime, openvino or deepsparse

Prints `ready`, then milliseconds, a line each. Runs in a peer's environment: it imports that runtime and numpy alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE = (1, 3, 224, 224)
Run = Callable[[np.ndarray], object]


def open_ours(model: str, threads: int) -> Run:
    from crisp_onnx.runtime.latency import timed_session

    opened = timed_session(Path(model), threads, native=True)
    return lambda x: opened.run(None, {"x": x})


def open_onnxruntime(model: str, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads > 1:  # as crisp_onnx times its own: a core each, counted from one, the calling thread left alone
        pinned = ";".join(str(core + 1) for core in sorted(os.sched_getaffinity(0))[1:threads])
        options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
    opened = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: opened.run(None, {"x": x})


def open_openvino(model: str, threads: int) -> Run:
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model)
    network.reshape(list(SHAPE))
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(network, "CPU", hints)
    return lambda x: compiled([x])


def open_deepsparse(model: str, threads: int) -> Run:
    import deepsparse

    engine = deepsparse.compile_model(model, batch_size=1, num_cores=threads)
    return lambda x: engine.run([x])


RUNTIMES = {
    "ours": open_ours,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "deepsparse": open_deepsparse,
}


def main() -> None:
    """Serve runs until standard input ends."""
    runtime, model, threads = sys.argv[1], str(Path(sys.argv[2])), int(sys.argv[3])
    x = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    run = RUNTIMES[runtime](model, threads)
    for _ in range(3):
        run(x)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        run(x)  # the other sides have just filled the caches
        start = time.perf_counter()
        run(x)
        sys.stdout.write(f"{(time.perf_counter() - start) * 1e3:.4f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
