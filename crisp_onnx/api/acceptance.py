"""What can be compressed: every refusal that a model's file can cause, before the first long stage.

`check` and `compress` ask the same here, so that the one says what the other would do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from crisp_onnx.api.prepare import Prepared, again
from crisp_onnx.api.simplify import require_same_answers
from crisp_onnx.bridge import GraphModule, compare_with_runtime, missing_operators, refusal_of, rehearse, to_torch
from crisp_onnx.errors import CrispError
from crisp_onnx.format import DOMAIN
from crisp_onnx.model import Model
from crisp_onnx.reading import shown

BATCHES = (1, 3)
LEARNT = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")


@dataclass(frozen=True)
class Accepted:
    """`prepared`, proven to answer as its file does, and the torch module that was proven to answer as both."""

    prepared: Prepared
    module: GraphModule


def accept(prepared: Prepared) -> Accepted:
    """Cross to torch, if nothing stands against it.

    Raises:
        CrispError: the model cannot be compressed; the message says why and what to do.
        Defect: this tool changes the answers of the model.
    """
    source, head = prepared.source, prepared.head
    refusal = next(filter(None, _obstacles(prepared)), "")
    if refusal:
        raise CrispError(refusal)
    simplified = require_same_answers(source, prepared.simplified, size=prepared.size)
    prepared = again(prepared, simplified)
    module = to_torch(prepared.model, head.trained)
    fixed = prepared.batch
    compare_with_runtime(module, prepared.model, batches=BATCHES if fixed is None else (fixed,), size=prepared.size)
    learnable = dict(module.named_parameters())
    weights = [layer.weight for layer in prepared.layers if not layer.obstacle and layer.weight in learnable]
    if weights:
        rehearse(module, prepared.model.input, weights, batch=fixed, size=prepared.size)
    return Accepted(prepared, module)


def _obstacles(prepared: Prepared) -> Iterator[str]:
    """What can be seen in the graph, a sentence each or empty, the one that explains most first."""
    name, head = prepared.source.path.name, prepared.head
    yield compressed_already(prepared.source)
    yield refusal_of(missing_operators(prepared.model, head.trained), name)
    graph = prepared.model.view
    for node in graph.nodes:
        yield _training_obstacle(node, name)
    tensors = graph.tensors()
    for stored in prepared.model.proto.graph.initializer:
        yield _number_obstacle(stored, tensors.get(stored.name), name)


def compressed_already(source: Model) -> str:
    """A sentence where the file holds hybrid operators; empty where it does not."""
    if any(node.domain == DOMAIN for node in source.proto.graph.node):
        return f"{source.path} is compressed already. Compress the model that it was made from."
    return ""


def _training_obstacle(node: gs.Node, name: str) -> str:
    if node.op == "BatchNormalization":
        if node.attrs.get("training_mode", 0):
            return (
                f"Node {shown(node.name)!r} of {name} (BatchNormalization) is in training mode: each answer depends on "
                "the other images of its batch. Export the model for inference (model.eval() in torch)."
            )
        variance = node.inputs[4]
        if isinstance(variance, gs.Constant) and (variance.values + node.attrs.get("epsilon", 1e-5) <= 0).any():
            return (
                f"Node {shown(node.name)!r} of {name} (BatchNormalization) has a variance {shown(variance.name)!r} "
                "that is not above zero, so its answers are no numbers. Export the model again."
            )
    return ""


def _number_obstacle(stored: onnx.TensorProto, tensor: gs.Tensor | None, name: str) -> str:
    """NaN spoils every answer; infinities may stand for what attention must not see, but not in weights."""
    if not isinstance(tensor, gs.Constant) or np.dtype(tensor.dtype).kind != "f":
        return ""
    values = numpy_helper.to_array(stored)
    learnt = any(reader.op in LEARNT for reader in tensor.outputs)
    bad = ~np.isfinite(values) if learnt else np.isnan(values)
    if not bad.any():
        return ""
    return (
        f"Tensor {shown(tensor.name)!r} of {name} holds {int(bad.sum())} of {values.size} values that are NaN or "
        "infinite: the model was damaged in training or export. Export it again."
    )
