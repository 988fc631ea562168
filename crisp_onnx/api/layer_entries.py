"""The report's entries of the weight layers: what was planned, what the file holds, and the times behind that."""

from __future__ import annotations

from crisp_onnx.api.emit import Emitted
from crisp_onnx.masks import DenseLayer, Plan, SparseLayer
from crisp_onnx.report.schema import LayerEntry

MS_DIGITS = 4  # the runtime's profile counts whole microseconds


def layer_entries(plan: Plan, emitted: Emitted) -> tuple[LayerEntry, ...]:
    """An entry per layer of `plan`. A planned layer that is not faster here counts as dense, with its true density."""
    pairs = zip(plan.layers, emitted.plan.layers, strict=True)
    return tuple(_entry(planned, stored, emitted) for planned, stored in pairs)


def _entry(planned: SparseLayer | DenseLayer, stored: SparseLayer | DenseLayer, emitted: Emitted) -> LayerEntry:
    layer, bytes_dense = planned.layer, planned.layer.weights * 4
    verdict = emitted.verdicts.get(layer.name)
    dense_ms = None if verdict is None else round(verdict.times.dense_ms, MS_DIGITS)
    sparse_ms = None if verdict is None else round(verdict.sparse_ms, MS_DIGITS)
    if isinstance(planned, DenseLayer) or layer.name in emitted.unpacked:
        return LayerEntry(
            name=layer.name, op=layer.op, weight=layer.weight, shape=layer.shape, macs=layer.macs, decision="dense",
            reason=stored.reason if isinstance(stored, DenseLayer) else "",
            density=1.0 if isinstance(planned, DenseLayer) else planned.density,
            bytes=bytes_dense, bytes_dense=bytes_dense, dense_ms=dense_ms, sparse_ms=sparse_ms,
        )  # fmt: skip
    pattern = planned.pattern
    return LayerEntry(
        name=layer.name, op=layer.op, weight=layer.weight, shape=layer.shape, macs=layer.macs, decision="sparse",
        n=pattern.n, m=pattern.m, block=pattern.block, vector_rows=pattern.vector_rows,
        kept_blocks=planned.kept.shape[1], block_columns=pattern.block_columns(layer.shape), density=planned.density,
        bytes=stored.bytes if isinstance(stored, SparseLayer) else bytes_dense, bytes_dense=bytes_dense,
        dense_ms=dense_ms, sparse_ms=sparse_ms,
    )  # fmt: skip
