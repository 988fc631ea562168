"""Fixtures shared by all tests: the folder of real models and images, and small models from ONNX text."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def _take_a_core_of_its_own() -> None:
    """Keep a process of several that test at once on one core, before anything asks how many there are.

    Two that share two cores each start two threads, which wait for one another by spinning.
    """
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(number) % len(cores)]})


def _hear_signals() -> None:
    """Undo what `nohup` and `&` leave behind: ignored signals, which a test of an interrupt waits for in vain."""
    for number, heard in (
        (signal.SIGINT, signal.default_int_handler),
        (getattr(signal, "SIGHUP", None), signal.SIG_DFL),
    ):
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, heard)


_take_a_core_of_its_own()
if threading.current_thread() is threading.main_thread():
    _hear_signals()

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from onnx import helper, numpy_helper, parser  # noqa: E402

from crisp_onnx.model import Model  # noqa: E402

# How long an example takes says more about what else a shared machine does than about the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def plain_logging() -> Iterator[None]:
    """Undo what a command run in this process did to the package's logger, so that caplog sees it again."""
    log = logging.getLogger("crisp_onnx")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and images: $CRISP_ONNX_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("CRISP_ONNX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real models and images at {folder}; set CRISP_ONNX_DATA")
    return folder


@pytest.fixture(scope="session")
def model_of() -> Callable[..., Model]:
    """`model_of("(float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul(x, w) }")`.

    A declared tensor that no node writes becomes an initializer: the keyword of its name, or else seeded noise.
    `renamed`: other names by those in the text, for names that ONNX's text form does not allow.
    """

    def build(
        graph: str,
        *,
        opset: int = 17,
        ir: int = 8,
        seed: int = 0,
        functions: str = "",
        renamed: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Model:
        local = ', "local" : 1' if functions else ""
        text = f'<ir_version: {ir}, opset_import: ["" : {opset}{local}]> g {graph}\n{functions}'
        proto = parser.parse_model(text)
        written = {name for node in proto.graph.node for name in node.output}
        declared = [v for v in proto.graph.value_info if v.name not in written]
        kept = [v for v in proto.graph.value_info if v.name in written]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(kept)
        rng = np.random.default_rng(seed)
        for value in declared:
            dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            array = np.asarray(values.get(value.name, rng.standard_normal(dims) * 0.5)).astype(dtype)
            proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        _rename(proto.graph, renamed or {})
        onnx.checker.check_model(proto, full_check=True)
        return Model(proto, Path("test.onnx"), "0" * 64)

    return build


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]


@pytest.fixture(scope="session")
def exact_answers() -> Callable[[Model, np.ndarray], np.ndarray]:
    """The first output in 64 bits, where another order of sums makes no difference that is worth a word."""

    import torch

    from crisp_onnx.bridge import to_torch

    def run(model: Model, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return to_torch(model).double().eval()(torch.from_numpy(x.astype(np.float64))).numpy()

    return run


@pytest.fixture(scope="session")
def answers() -> Callable[..., list[np.ndarray]]:
    """All outputs of a model in stock ONNX Runtime, without graph optimisation."""

    def run(model: Model | onnx.ModelProto | Path, x: np.ndarray) -> list[np.ndarray]:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if isinstance(model, Path):
            source: str | bytes = str(model)
        else:
            source = (model.proto if isinstance(model, Model) else model).SerializeToString()
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: x})

    return run


Export = Callable[[str, bool], tuple[Model, Any]]


@pytest.fixture(scope="session")
def torch_export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """`export(kind, dynamo)`: a torch module of `torch_exports.KINDS` and its export, made once."""
    from torch_exports import exported

    made: dict[tuple[str, bool], tuple[Model, Any]] = {}

    def export(kind: str, dynamo: bool) -> tuple[Model, Any]:
        if (kind, dynamo) not in made:
            path = tmp_path_factory.mktemp("export") / f"{kind}.onnx"
            made[kind, dynamo] = exported(kind, path, dynamo=dynamo)
        return made[kind, dynamo]

    return export
