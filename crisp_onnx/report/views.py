"""What check, inspect, verify and doctor found, as tables for people and as one JSON document for programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from rich.console import RenderableType
from rich.text import Text

from crisp_onnx.report.doctor import DoctorReport
from crisp_onnx.report.findings import BankFound, BlocksFound, Check, Inspection, Verification
from crisp_onnx.report.rows import overlap_cells
from crisp_onnx.report.schema import Segmentation, json_text
from crisp_onnx.report.table import line, lines, rows_table
from crisp_onnx.report.wording import count_text, milliseconds_text, shape_text, share_text, size_text

View = tuple[RenderableType, ...]
SAME_WEIGHTS = 1e-4
"""Relative: float32 sums in another order differ by less."""


def blocks_view(found: BlocksFound) -> View:
    """A row a residual block, and what the model without some of them answers."""
    rows = [
        (
            block.name,
            len(block.nodes),
            share_text(block.macs / max(1, found.macs)),
            f"{block.cka:.3f}",
            share_text(block.moved),
            "dropped" if block.dropped else "",
        )
        for block in found.blocks
    ]
    table = rows_table(
        f"{found.path.name}: {len(rows)} residual blocks",
        ("block", "operators", "of the MACs", "CKA of input and output", "answers move without it by", ""),
        rows,
        right=(1, 2, 3, 4),
    )
    sentences = list(found.notes)
    if found.output is not None:
        left = 1 - sum(block.macs for block in found.blocks if block.dropped) / max(1, found.macs)
        sentences.append(
            f"Written to {found.output}: {share_text(left)} of the MACs; its answers have moved by "
            f"{share_text(found.moved)} of their spread. compress it, so that training makes up for that."
        )
    return (table, *lines(sentences))


def check_view(found: Check) -> View:
    """A row per weight layer, the operators, and the groups of layers that share a dimension."""
    rows = [
        (
            item.layer.name,
            item.layer.op,
            shape_text(item.layer.shape),
            count_text(item.layer.weights),
            "unknown" if item.layer.positions is None else count_text(item.layer.macs),
            "yes" if item.prunable else "no",
            item.reason,
        )
        for item in found.layers
    ]
    layers = rows_table(
        f"{found.path.name}: {len(rows)} weight layers",
        ("layer", "op", "shape", "weights", "MACs", "prunable", "why not"),
        rows,
        right=(3, 4),
    )
    shared = [group for group in found.groups if len(group.producers) > 1 or len(group.consumers) > 1]
    groups = rows_table(
        "Layers that share a channel dimension",
        ("channels", "written by", "read by", "bound to"),
        [(g.width, _listed(g.producers), _listed(g.consumers), _listed(g.bounds)) for g in shared],
        right=(0,),
    )
    operators = ", ".join(f"{count} {name}" for name, count in found.operators.items())
    sentences = [
        f"Operators (opset {found.opset}): {operators}.",
        f"Prunable: {share_text(found.prunable_weights)} of the weights, "
        f"{share_text(found.prunable_macs)} of the {count_text(found.macs)} MACs of one image.",
    ]
    if found.refusal:
        sentences.append(f"compress would not take this model: {found.refusal_told}")
    return (layers, Text(), *((groups, Text()) if shared else ()), *lines([*sentences, *found.notes]))


def groups_view(found: Check) -> View:
    """A row per group of channels: what it goes through, what one of its channels costs, why it stays as it is."""
    rows = [
        (
            group.width,
            _listed(group.producers),
            ", ".join(f"{count} {op}" for op, count in group.operators.items()),
            _listed(group.consumers),
            count_text(group.macs_a_channel),
            size_text(group.bytes_a_channel),
            "yes" if group.removable else "no",
            _listed((*group.bounds, *group.keeps), 2) or ("" if group.width > 1 else "a single channel"),
        )
        for group in found.groups
    ]
    free = sum(group.removable for group in found.groups)
    table = rows_table(
        f"{found.path.name}: {len(rows)} groups of channels",
        ("channels", "written by", "through", "read by", "MACs each", "bytes each", "removable", "why not"),
        rows,
        right=(0, 4, 5),
    )
    cut = sum(item.layer.macs for item in found.layers if _narrows(found, item.layer.name))
    sentences = [
        f"Channels of {free} groups may be removed; a channel of a group lives or dies in all of its layers.",
        f"Layers that can lose channels on a side hold {share_text(cut / found.macs if found.macs else 0.0)} of the "
        f"{count_text(found.macs)} MACs of one image.",
    ]
    if found.refusal_of_channels:
        sentences.append(f"compress --method channels would not take this model: {found.refusal_of_channels}")
    elif found.refusal:
        sentences.append(f"compress takes this model with --method channels, and with no other: {found.refusal}")
    return (table, Text(), *lines([*sentences, *found.notes]))


def _narrows(found: Check, layer: str) -> bool:
    return any(g.removable and (layer in g.producers or layer in g.consumers) for g in found.groups)


def inspect_view(found: Inspection) -> View:
    """A row per hybrid layer and the total against the formula."""
    rows = [
        (
            layer.name,
            layer.op,
            shape_text(layer.shape),
            f"{layer.pattern}, block {layer.pattern.block}, V {layer.pattern.vector_rows}",
            f"{layer.kept_blocks} of {layer.block_columns}",
            share_text(layer.density),
            size_text(layer.value_bytes),
            size_text(layer.metadata_bytes),
        )
        for layer in found.layers
    ]
    table = rows_table(
        f"{found.path.name}: {len(rows)} hybrid layers",
        ("layer", "op", "shape", "pattern", "blocks a row", "density", "values", "metadata"),
        rows,
        right=(5, 6, 7),
    )
    ratio = found.file_bytes / max(1, found.formula_bytes)
    zeros = rows_table(
        f"{len(found.zeros)} ordinary layers with zeros in place",
        ("layer", "op", "shape", "density", "bytes"),
        [(z.name, z.op, shape_text(z.shape), share_text(z.density), size_text(z.bytes)) for z in found.zeros],
        right=(3, 4),
    )
    recounted = f"Every N:M group, block row and tensor shape was recounted: all {len(rows)} layers are as they say."
    sentences = (
        recounted if rows else "The file holds ordinary operators alone: no zeros are packed.",
        f"File {size_text(found.file_bytes)}; formula plus dense tensors {size_text(found.formula_bytes)} "
        f"({100 * (ratio - 1):+.1f} % for the graph itself).",
        *found.notes,
    )
    tables = ((table,) if rows else ()) + ((zeros,) if found.zeros else ())
    return (*tables, Text(), *lines(sentences))


def verify_view(found: Verification) -> View:
    """Original against compressed."""
    first, second = found.timing.sides_ms
    rows: list[tuple[str, str, str]] = [
        ("file", size_text(found.bytes_original), size_text(found.bytes_compressed)),
        ("latency, 1 thread, batch 1", milliseconds_text(first.median), milliseconds_text(second.median)),
    ]
    if isinstance(found.comparison, Segmentation):
        rows += [(name, before, after) for name, before, after, _ in overlap_cells(found.comparison)]
    elif found.comparison is not None:
        n = found.comparison.n
        one, two = found.comparison.counts
        among = ("accuracy among the classes", one.right_restricted, two.right_restricted)
        for name, a, b in (among, ("accuracy over all outputs", one.right, two.right)):
            rows.append((name, share_text(a / n, n), share_text(b / n, n)))
        rows.append(("images on which both agree", "", share_text(found.comparison.agreement / n, n)))
    table = rows_table("", ("", "original", "compressed"), rows, right=(1, 2))
    sentences = (
        _difference_text(found.worst_relative),
        f"The compressed file's latency is that of {found.runtime}.",
        *found.notes,
    )
    return (table, Text(), *lines(sentences))


def _difference_text(worst: float) -> str:
    """What the difference of the scores means: a check of nothing, unless both files hold the same weights."""
    said = f"Scores of the classes on seeded noise: the largest difference is {worst:.3g} times the original's largest."
    if worst <= SAME_WEIGHTS:
        return f"{said} Both files compute the same."
    return (
        f"{said} Pruning and training change scores, those of noise most of all, so no limit is set for this; whether "
        "the compressed model is good, accuracy and agreement on images say."
    )


def doctor_view(found: DoctorReport) -> View:
    """A row per finding."""
    rows = [(f.name, f.state, f.found, f.remedy) for f in found.findings]
    ready = "Ready." if found.ready else "Not ready: see the rows that are not ok."
    return (rows_table("", ("what", "state", "found", "what to do"), rows), Text(), line(ready))


def bank_view(found: BankFound) -> View:
    """One line on what was kept, and what the user should know."""
    total = sum(found.images.values())
    said = (
        f"{found.path}: sums of {len(found.images)} classes over {total:,} images, "
        f"{found.weights} weight tensors a class, {size_text(found.bytes)}."
    )
    return lines([said, *found.notes])


def document(found: object) -> str:
    """Any result as one JSON document; numbers that are not finite become null."""
    return json_text(_plain(found))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        derived = [name for name, item in vars(type(value)).items() if isinstance(item, property)]
        return {name: _plain(getattr(value, name)) for name in (*names, *derived)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _scalar(value.item() if isinstance(value, np.generic) else value)


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _listed(names: tuple[str, ...], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
