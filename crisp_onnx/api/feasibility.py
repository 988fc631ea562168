"""`check`: what could be gained on a model and what not, before anything is compressed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from crisp_onnx.api.prepare import prepare
from crisp_onnx.bridge import missing_operators
from crisp_onnx.data import parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.groups import channel_groups
from crisp_onnx.masks import reason_to_stay_dense
from crisp_onnx.model import DEFAULT_SIZE, load
from crisp_onnx.report.findings import Check, LayerCheck, SharedChannels


def check(model: Path, *, pattern: Pattern | None = None, preprocess: str | None = None) -> Check:
    """Look at a model under `pattern` (2:4 in blocks of 16 by default).

    Raises:
        CrispError: the file is broken or has several inputs.
    """
    pattern = pattern or Pattern()
    source = load(model)
    notes = []
    size = DEFAULT_SIZE
    try:
        size = parse_preprocess(preprocess or "unit", source.input).size
    except CrispError as error:
        if preprocess is not None:
            raise
        notes.append(f"MACs are counted at {size[0]}x{size[1]} pixels: {error}")
    prepared = prepare(model, size=size)
    graph = prepared.model.graph()
    layers = tuple(
        LayerCheck(layer, reason_to_stay_dense(layer, pattern, left=prepared.left)) for layer in prepared.layers
    )
    notes += prepared.notes
    try:
        notes += prepared.outputs.notes(prepared.head)
    except CrispError as error:
        notes.append(str(error))
    unknown = [item.layer.name for item in layers if item.layer.positions is None]
    if unknown:
        notes.append(f"MACs of {len(unknown)} layers are unknown, because their output shapes cannot be inferred.")
    return Check(
        path=model,
        opset=source.opset,
        input_shape=source.input.shape,
        layers=layers,
        operators=dict(Counter(node.op for node in graph.nodes).most_common()),
        missing={op: len(nodes) for op, nodes in missing_operators(prepared.model).items()},
        groups=tuple(
            SharedChannels(group.width, group.producers, group.consumers, tuple(map(str, group.barriers)))
            for group in channel_groups(graph, prepared.layers, prepared.shapes)
        ),
        notes=tuple(notes),
    )
