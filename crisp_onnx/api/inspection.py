"""`inspect`: recount what a compressed file holds: every N:M group, every block row, every byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.api.dropped_blocks import blocks_told
from crisp_onnx.api.width_entries import widths_told
from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.format import recount
from crisp_onnx.format.node import is_hybrid, packed_names
from crisp_onnx.model import Model, load, weight_layers
from crisp_onnx.report.findings import Inspection, ZeroLayer
from crisp_onnx.task import Stamp, read_stamp

MOST_DENSE, NAMED = 0.98, 10


def inspect(model: Path, *, output_name: str | None = None) -> Inspection:
    """Read a compressed file and recount it.

    `output_name`: the output of which to say what the file records, where it has several.

    Raises:
        CrispError: the file is broken, was not written by `compress`, or has no such output.
        VerificationFailed: a hybrid node or its tensors cannot be as they are; names the node.
    """
    source = load(model)
    graph = source.graph()
    layers = recount(graph)
    stamp = read_stamp(source.metadata)
    told = tuple(filter(None, (widths_told(source.metadata), blocks_told(source.metadata))))
    if not layers and stamp is None and not told:
        raise CrispError(
            f"{model} holds no hybrid operator and no record of a compression: `crisp-onnx compress` did not write it."
        )
    output = _output(source, output_name, stamp)
    packed = {name for node in graph.nodes if is_hybrid(node) for name in packed_names(node)}
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    dense_bytes = sum(t.values.nbytes for name, t in constants.items() if name not in packed)
    zeros = tuple(_zero_layers(source))
    notes = () if stamp is None else _told(stamp, output)
    return Inspection(model, layers, dense_bytes, source.file_bytes, zeros, (*notes, *told))


def _zero_layers(source: Model) -> Iterator[ZeroLayer]:
    """The ordinary weight layers that hold a share of zeros that no training leaves."""
    graph = source.graph()
    stored = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    for layer in weight_layers(source):
        if layer.weight in stored:
            values = stored[layer.weight].values
            density = np.count_nonzero(values) / max(1, values.size)
            if density < MOST_DENSE:
                yield ZeroLayer(layer.name, layer.op, layer.shape, density, values.nbytes)


def _output(source: Model, asked: str | None, stamp: Stamp | None) -> str | None:
    """The output asked for, or the one that the file records."""
    names = [output.name for output in source.outputs]
    if asked is not None and asked not in names:
        listed = ", ".join(map(repr, names))
        raise CrispError(f"{source.path.name} has no output {asked!r}; it has {listed}.{nearest(asked, names)}")
    return asked if asked is not None or stamp is None else stamp.output


def _told(stamp: Stamp, output: str | None) -> Iterator[str]:
    """What the file records: its classes, the columns of a head that was cut, its preprocessing."""
    if output != stamp.output:
        yield (
            f"Nothing is recorded of output {output!r}: the file was compressed for {stamp.output!r}, and nothing "
            "looked after what other outputs answer."
        )
        return
    named = [f"{name} ({index})" for index, name in stamp.classes.items()]
    yield f"Made for {len(named)} classes: {', '.join(named[:NAMED])}{', ...' if len(named) > NAMED else ''}."
    cut = stamp.columns != tuple(range(len(stamp.columns)))
    yield (
        f"Output {stamp.output!r} has {len(stamp.columns)} columns, "
        + (f"of the source's classes {', '.join(map(str, stamp.columns[:NAMED]))}" if cut else "one a class in order")
        + (", ..." if cut and len(stamp.columns) > NAMED else "")
        + "."
    )
    if stamp.preprocess:
        yield f"Preprocessing: {stamp.preprocess}."
