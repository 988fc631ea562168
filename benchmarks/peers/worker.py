"""One side of the comparison: opens a model in one runtime and takes a turn for every line on standard input.

    python worker.py RUNTIME MODEL THREADS        RUNTIME: ours, onnxruntime, openvino or deepsparse

Prints `ready`; then, for every number of seconds that it reads, a JSON list of milliseconds, a run each. Runs in a
peer's environment: it imports that runtime and numpy alone.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

SHAPE = (1, 3, 224, 224)
Run = Callable[[np.ndarray], object]


def open_ours(model: str, threads: int) -> Run:
    from crisp_onnx.runtime import session
    from crisp_onnx.runtime.opening import timing_options

    opened = session(Path(model), native=True, options=timing_options(threads))
    return lambda x: opened.run(None, {"x": x})


def open_onnxruntime(model: str, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
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
    """Serve turns until standard input ends."""
    runtime, model, threads = sys.argv[1], str(Path(sys.argv[2])), int(sys.argv[3])
    x = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    run, turns = RUNTIMES[runtime](model, threads), timing_module()
    run(x)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        times = turns.timed_runs(lambda: run(x), float(line))
        sys.stdout.write(f"{json.dumps(times.tolist())}\n")
        sys.stdout.flush()


def timing_module() -> ModuleType:
    """`crisp_onnx.runtime.turns` alone, by its file: the package is not installed in a peer's environment."""
    path = Path(__file__).parents[2] / "crisp_onnx" / "runtime" / "turns.py"
    spec = importlib.util.spec_from_file_location("turns", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
