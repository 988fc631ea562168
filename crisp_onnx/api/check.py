"""`check`: what could be gained on a model and what not, before anything is compressed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.api.prepare import prepare
from crisp_onnx.bridge import missing_operators
from crisp_onnx.data import parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.masks import ChannelGroup, channel_groups, reason_to_stay_dense
from crisp_onnx.model import DEFAULT_SIZE, WeightLayer, load


@dataclass(frozen=True)
class LayerCheck:
    """One weight layer; `reason` says why it stays dense, and is empty where it may become sparse."""

    layer: WeightLayer
    reason: str

    @property
    def prunable(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Check:
    """`operators`: counts by type. `missing`: operators without a bridge, which `compress` would refuse."""

    path: Path
    opset: int
    input_shape: tuple[int | None, ...]
    layers: tuple[LayerCheck, ...]
    operators: dict[str, int]
    missing: dict[str, int]
    groups: tuple[ChannelGroup, ...]
    notes: tuple[str, ...]

    @property
    def prunable_weights(self) -> float:
        """Weights of the prunable layers over those of all weight layers."""
        total = sum(item.layer.weights for item in self.layers)
        return sum(item.layer.weights for item in self.layers if item.prunable) / total if total else 0.0

    @property
    def prunable_macs(self) -> float:
        """MACs of the prunable layers over those of all weight layers."""
        total = sum(item.layer.macs for item in self.layers)
        return sum(item.layer.macs for item in self.layers if item.prunable) / total if total else 0.0


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
        LayerCheck(layer, reason_to_stay_dense(layer, pattern, classifier=prepared.classifier))
        for layer in prepared.layers
    )
    if not prepared.classifier:
        notes.append("No classifier was found behind the output, so --head slice is not possible.")
    try:
        outputs = prepared.outputs
        notes.append(f"{outputs} outputs, read as {'probabilities' if prepared.probabilities else 'logits'}.")
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
        groups=channel_groups(graph, prepared.layers, prepared.shapes),
        notes=tuple(notes),
    )
