"""The report's entries of the weight layers: what was planned, what the file holds, and the times behind that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from math import isfinite

from crisp_onnx.api.emit import Emitted
from crisp_onnx.api.int8 import Int8
from crisp_onnx.masks import DenseLayer, Plan, SparseLayer
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.report.schema import LayerEntry, LayerFitEntry
from crisp_onnx.runtime.profit import Verdict

NOT_REACHED = "it has no int8 form here"
MS_DIGITS = 4  # the runtime's profile counts whole microseconds


def layer_entries(
    plan: Plan,
    emitted: Emitted,
    rehearsed: Mapping[str, Verdict],
    fits: Sequence[LayerFit] = (),
    int8: Int8 | None = None,
) -> tuple[LayerEntry, ...]:
    """An entry per layer of `plan`.

    `rehearsed`: verdicts before training, for layers that were left dense then. `fits`: of the layers that were
    re-fitted. `int8`: None for a file in float32.
    """
    verdicts = {**rehearsed, **emitted.verdicts}
    by_layer = {fit.layer: fit_entry(fit) for fit in fits}
    pairs = zip(plan.layers, emitted.plan.layers, strict=True)
    entries = tuple(
        _entry(planned, stored, verdicts.get(planned.layer.name), by_layer.get(planned.layer.name))
        for planned, stored in pairs
    )
    return entries if int8 is None else tuple(map(_in_int8, entries, emitted.plan.layers, repeat(int8)))


def _in_int8(entry: LayerEntry, stored: SparseLayer | DenseLayer, int8: Int8) -> LayerEntry:
    """The entry of a layer of an int8 file."""
    timed = int8.in_float32.get(entry.name)
    if timed is not None:
        ms = {"dense_float32_ms": timed.times.dense_ms, "sparse_float32_ms": timed.sparse_ms}
        entry = entry.model_copy(update={name: round(value, MS_DIGITS) for name, value in ms.items()})
    if entry.name not in int8.layers:
        return entry.model_copy(update={"precision_reason": int8.left.get(entry.name, NOT_REACHED)})
    size = stored.stored_bytes(1) if isinstance(stored, SparseLayer) else stored.layer.weights
    return entry.model_copy(update={"precision": "int8", "bytes": size})


def fit_entry(fit: LayerFit) -> LayerFitEntry | None:
    """The report's form of a re-fit; None where the layer's outputs overflow, so that no error can be told."""
    if not (isfinite(fit.before) and isfinite(fit.after)):
        return None
    return LayerFitEntry(error_before=fit.before, error_after=fit.after, ridge=fit.ridge)


def _entry(
    planned: SparseLayer | DenseLayer,
    stored: SparseLayer | DenseLayer,
    verdict: Verdict | None,
    fit: LayerFitEntry | None,
) -> LayerEntry:
    layer, bytes_dense = planned.layer, planned.layer.weights * 4
    dense_ms = None if verdict is None else round(verdict.times.dense_ms, MS_DIGITS)
    sparse_ms = None if verdict is None else round(verdict.sparse_ms, MS_DIGITS)
    if isinstance(planned, DenseLayer):
        return LayerEntry(
            name=layer.name, op=layer.op, weight=layer.weight, shape=layer.shape, macs=layer.macs,
            macs_executed=layer.macs, decision="dense", reason=planned.reason, density=1.0, bytes=bytes_dense,
            bytes_dense=bytes_dense, dense_ms=dense_ms, sparse_ms=sparse_ms, fit=fit,
        )  # fmt: skip
    pattern = planned.pattern
    return LayerEntry(
        name=layer.name, op=layer.op, weight=layer.weight, shape=layer.shape, macs=layer.macs,
        macs_executed=stored.kept_macs if isinstance(stored, SparseLayer) else layer.macs, decision="sparse",
        n=pattern.n, m=pattern.m, block=pattern.block, vector_rows=pattern.vector_rows,
        kept_blocks=planned.kept.shape[1], block_columns=pattern.block_columns(layer.shape), density=planned.density,
        bytes=stored.bytes if isinstance(stored, SparseLayer) else bytes_dense, bytes_dense=bytes_dense,
        dense_ms=dense_ms, sparse_ms=sparse_ms, fit=fit,
    )  # fmt: skip
