"""`check`: what could be gained on a model and what not, before anything is compressed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from crisp_onnx.api.acceptance import accept
from crisp_onnx.api.int8_able import require_int8
from crisp_onnx.api.planning import find_candidates
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.trials import no_fault_of
from crisp_onnx.api.ways import WAYS, require_way
from crisp_onnx.api.widths import groups_of, with_stated_lengths
from crisp_onnx.bridge import missing_operators
from crisp_onnx.channels import Extent
from crisp_onnx.data import parse_preprocess
from crisp_onnx.data.preprocess_text import takes_images
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.groups import channel_groups
from crisp_onnx.masks import reason_to_stay_dense
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, TensorSpec, load, tensor_shapes
from crisp_onnx.report.findings import Check, LayerCheck, SharedChannels
from crisp_onnx.task import CLASSIFICATION


def check(
    model: Path,
    *,
    pattern: Pattern | None = None,
    preprocess: str | None = None,
    output_name: str | Sequence[str] | None = None,
    precision: Literal["fp32", "int8"] = "fp32",
    task: str = CLASSIFICATION,
) -> Check:
    """Look at a model under `pattern` (2:4 in blocks of 16 by default), and whether `compress` would take it.

    `precision`: in which the result is to compute. `output_name`: the output that scores the classes, where the file
    has several, or those that matter, that one first. `task`: `classification` or `segmentation`.

    Raises:
        CrispError: the file is broken or has several inputs.
    """
    pattern = pattern or Pattern()
    source = load(model)
    size, notes = _size(source.input, preprocess)
    prepared = prepare(source, size=size, output=output_name, task=task)
    with no_fault_of(source, prepared.size):
        return _looked_at(source, prepared, pattern, notes, precision)


def _looked_at(source: Model, prepared: Prepared, pattern: Pattern, notes: list[str], precision: str) -> Check:
    refusal = ""
    try:
        require_way(WAYS[prepared.task].refusal_in(precision))
        prepared = accept(prepared).prepared
        notes += prepared.outputs.notes(prepared.head)
    except CrispError as error:
        refusal = str(error)
    model = with_stated_lengths(prepared.model, prepared.size)
    shapes = prepared.shapes if model is prepared.model else tensor_shapes(model, size=prepared.size)
    in_bytes = _refusal(partial(require_int8, prepared)) if precision == "int8" and not refusal else ""
    hybrid = refusal or _refusal(partial(find_candidates, prepared, pattern)) or in_bytes
    channels = refusal or _refusal(partial(groups_of, prepared, model.graph(), shapes)) or in_bytes
    layers = tuple(
        LayerCheck(layer, reason_to_stay_dense(layer, pattern, left=prepared.left)) for layer in prepared.layers
    )
    notes += prepared.notes
    graph = prepared.model.view
    return Check(
        path=source.path,
        opset=source.opset,
        input_shape=source.input.shape,
        layers=layers,
        macs_beside=prepared.beside.macs,
        operators=dict(Counter(node.op for node in graph.nodes).most_common()),
        missing={op: len(nodes) for op, nodes in missing_operators(prepared.model).items()},
        refusal=hybrid,
        refusal_of_channels=channels,
        groups=_shared(prepared, model, shapes),
        notes=tuple(notes),
    )


def _refusal(require: Callable[[], object]) -> str:
    try:
        require()
    except CrispError as error:
        return str(error)
    return ""


def _shared(prepared: Prepared, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> tuple[SharedChannels, ...]:
    """Every group of channels of `model`, the prepared one with its lengths in numbers, and what one of them costs."""
    graph = model.view
    groups = channel_groups(graph, prepared.layers, shapes)
    extent = Extent(graph, groups, shapes)
    none, one = np.zeros(len(groups)), np.ones(len(groups), np.int64)
    kinds = {node.name: node.op for node in graph.nodes}
    saved = zip(extent.macs.gained(none, one), extent.bytes.gained(none, one), strict=True)
    return tuple(
        SharedChannels(
            width=group.width,
            producers=group.producers,
            consumers=group.consumers,
            bounds=tuple(map(str, group.barriers)),
            passes=group.passes,
            operators=dict(Counter(kinds[name] for name in group.passes).most_common()),
            keeps=tuple(map(str, group.keeps)),
            macs_a_channel=round(macs),
            bytes_a_channel=round(nbytes),
        )
        for group, (macs, nbytes) in zip(groups, saved, strict=True)
    )


def _size(spec: TensorSpec, preprocess: str | None) -> tuple[Size, list[str]]:
    """Height and width that open sides count as, with a note where nobody gave them or the input takes no images."""
    if preprocess is None and not takes_images(spec):
        rows = "x".join("?" if side is None else str(side) for side in spec.shape[1:]) or "one value"
        note = f"Input {spec.name!r} takes rows of {rows}, not images: --data must be an .npz that holds such rows."
        return DEFAULT_SIZE, [note]
    try:
        return parse_preprocess(preprocess or "raw", spec).size, []
    except CrispError as error:
        if preprocess is not None or None not in spec.shape[1:]:
            raise
        height, width = DEFAULT_SIZE
        return DEFAULT_SIZE, [f"MACs are counted at {height}x{width} pixels: {error}"]
