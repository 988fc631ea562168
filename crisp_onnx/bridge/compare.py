"""Compare the torch module with ONNX Runtime on seeded inputs and name the first node that differs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, TensorSpec, save

log = logging.getLogger(__name__)
TOLERANCE = 1e-4
# Sums of 16-bit numbers differ in their last places with the order of adding.
TOLERANCE_16_BIT = 1e-2
PROTOBUF_LIMIT_BYTES = 2**31 - 1
Arrays = dict[str, npt.NDArray[Any]]


def compare_with_runtime(
    module: GraphModule, model: Model, *, seed: int = 0, batches: Sequence[int] = (1, 3), size: Size = DEFAULT_SIZE
) -> float:
    """The worst `max|torch - runtime| / max|runtime|` over all outputs and batch sizes.

    Both run the same seeded images, open sides those of `size`; a model whose file fixes the batch is compared at that
    batch alone.

    Raises:
        Defect: the difference is over 1e-4 (over 1e-2 where weights have 16 bits); the message names the first node,
            in the order of the graph, that differs.
        CrispError: ONNX Runtime cannot load or run the model.
    """
    spec = model.input
    sizes = tuple(batches) if spec.shape and spec.shape[0] is None else (spec.fixed(1, size)[0],)
    rng = np.random.default_rng(seed)
    outputs = [o.name for o in model.proto.graph.output]
    session = _session(model)
    worst = 0.0
    for batch in dict.fromkeys(sizes):
        image = _image(spec, rng, batch, size)
        ours = _run_torch(module, spec.name, image, outputs)
        theirs = _run_runtime(session, model, spec.name, image, outputs)
        difference = max(relative_difference(ours[name], theirs[name]) for name in outputs)
        if difference > _tolerance(module):
            raise Defect(_first_difference(module, model, image, difference))
        worst = max(worst, difference)
        if not all(np.isfinite(theirs[name]).all() for name in outputs):
            log.warning("%s answers random images with values that are not finite", model.path.name)
    log.debug("torch and ONNX Runtime agree within %.1e on batches %s", worst, sizes)
    return worst


def relative_difference(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """`max|ours - theirs| / max|theirs|`; infinite where shapes differ or only one of both is finite."""
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.size:
        return 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    scale = max(float(np.abs(b[finite]).max(initial=0.0)), 1e-6)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / scale


def _tolerance(module: GraphModule) -> float:
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters())
    return TOLERANCE_16_BIT if half else TOLERANCE


def _image(spec: TensorSpec, rng: np.random.Generator, batch: int, size: Size) -> npt.NDArray[Any]:
    shape = spec.fixed(batch, size)
    if np.issubdtype(spec.dtype, np.integer):
        return rng.integers(0, 128, shape).astype(spec.dtype)
    return rng.standard_normal(shape).astype(spec.dtype)


def _run_torch(module: GraphModule, name: str, image: npt.NDArray[Any], outputs: Sequence[str]) -> Arrays:
    training = module.training
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    module.eval()
    try:
        with torch.no_grad():
            values: dict[str, Tensor] = module.run({name: torch.from_numpy(image).to(device)}, outputs)
    finally:
        module.train(training)
    return {key: value.cpu().numpy() for key, value in values.items()}


def _session(model: Model, exposed: Sequence[str] = ()) -> ort.InferenceSession:
    """The model in ONNX Runtime without graph rewriting, with the tensors `exposed` as outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in exposed)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        if proto.ByteSize() < PROTOBUF_LIMIT_BYTES:
            return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            save(Model(proto, path, model.sha256), path)
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many unrelated types
        raise CrispError(f"ONNX Runtime cannot load {model.path.name}: {_first_line(error)}") from error


def _run_runtime(
    session: ort.InferenceSession, model: Model, name: str, image: npt.NDArray[Any], outputs: Sequence[str]
) -> Arrays:
    try:
        values = session.run(list(outputs), {name: image})
    except Exception as error:  # onnxruntime raises many unrelated types
        raise CrispError(f"ONNX Runtime cannot run {model.path.name}: {_first_line(error)}") from error
    return dict(zip(outputs, values, strict=True))


def _first_difference(module: GraphModule, model: Model, image: npt.NDArray[Any], difference: float) -> str:
    graph = model.proto.graph
    tolerance = _tolerance(module)
    outputs = {o.name for o in graph.output}
    known = {name for node in module.nodes for name in node.outputs if name}
    ours = _run_torch(module, model.input.name, image, sorted(known))
    names = [name for node in graph.node for name in node.output if name in known]
    session = _session(model, [name for name in names if name not in outputs])
    theirs = _run_runtime(session, model, model.input.name, image, names)
    for number, node in enumerate(graph.node):
        for name in node.output:
            if name in known and relative_difference(ours[name], theirs[name]) > tolerance:
                return (
                    f"Torch and ONNX Runtime differ by {difference:.1e} (relative) on {model.path.name}. The first "
                    f"node that differs is {node.name or f'{node.op_type}_{number}'!r} ({node.op_type}, opset "
                    f"{model.opset}), at its output {name!r}. Please report it with the model."
                )
    return f"Torch and ONNX Runtime differ by {difference:.1e} (relative) on {model.path.name}, but no node alone does."


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
