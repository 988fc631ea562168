"""Compare the torch module with ONNX Runtime on seeded inputs and name the first node that differs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import DEFAULT_SIZE, Model, Size
from crisp_onnx.model.answers import Runner, open_model, relative_difference, seeded_image
from crisp_onnx.reading import reason

log = logging.getLogger(__name__)
TOLERANCE = 1e-4
# Sums of 16-bit numbers differ in their last places with the order of adding.
TOLERANCE_16_BIT = 1e-2
Arrays = dict[str, npt.NDArray[Any]]


def compare_with_runtime(
    module: GraphModule,
    model: Model,
    *,
    seed: int = 0,
    batches: Sequence[int] = (1, 3),
    size: Size = DEFAULT_SIZE,
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
    outputs = module.output_names
    runner = _open(model, [name for name in outputs if name not in _outputs(model)])
    worst = 0.0
    for batch in dict.fromkeys(sizes):
        image = seeded_image(spec, batch, size, seed=seed + batch)
        ours = _run_torch(module, spec.name, image, outputs)
        theirs = _run_runtime(runner, model, spec.name, image, outputs)
        difference = max(relative_difference(ours[name], theirs[name]) for name in outputs)
        if difference > _tolerance(module):
            raise Defect(_first_difference(module, model, image, difference))
        worst = max(worst, difference)
        if not all(np.isfinite(theirs[name]).all() for name in outputs):
            log.warning("%s answers random images with values that are not finite", model.path.name)
    log.debug("torch and ONNX Runtime agree within %.1e on batches %s", worst, sizes)
    return worst


def _outputs(model: Model) -> set[str]:
    return {output.name for output in model.proto.graph.output}


def _tolerance(module: GraphModule) -> float:
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters())
    return TOLERANCE_16_BIT if half else TOLERANCE


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


def _open(model: Model, exposed: Sequence[str] = ()) -> Runner:
    try:
        return open_model(model, exposed)
    except Exception as error:  # onnxruntime raises many unrelated types
        raise CrispError(f"ONNX Runtime cannot load {model.path.name}: {reason(error)}") from error


def _run_runtime(runner: Runner, model: Model, name: str, image: npt.NDArray[Any], outputs: Sequence[str]) -> Arrays:
    try:
        return runner.run({name: image}, outputs)
    except Exception as error:  # onnxruntime raises many unrelated types
        raise CrispError(f"ONNX Runtime cannot run {model.path.name}: {reason(error)}") from error


def _first_difference(module: GraphModule, model: Model, image: npt.NDArray[Any], difference: float) -> str:
    graph = model.proto.graph
    tolerance = _tolerance(module)
    outputs = _outputs(model)
    known = {name for node in module.nodes for name in node.outputs if name}
    ours = _run_torch(module, model.input.name, image, sorted(known))
    names = [name for node in graph.node for name in node.output if name in known]
    runner = _open(model, [name for name in names if name not in outputs])
    theirs = _run_runtime(runner, model, model.input.name, image, names)
    for number, node in enumerate(graph.node):
        for name in node.output:
            if name in known and relative_difference(ours[name], theirs[name]) > tolerance:
                return (
                    f"Torch and ONNX Runtime differ by {difference:.1e} (relative) on {model.path.name}. The first "
                    f"node that differs is {node.name or f'{node.op_type}_{number}'!r} ({node.op_type}, opset "
                    f"{model.opset}), at its output {name!r}. Please report it with the model."
                )
    return f"Torch and ONNX Runtime differ by {difference:.1e} (relative) on {model.path.name}, but no node alone does."
