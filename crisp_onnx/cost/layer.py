"""Cycles of one lowered layer: compute, on-chip and DRAM, the largest of them, and the fixed overhead."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from crisp_onnx.cost.energy import LEVELS, Energy, energy_of
from crisp_onnx.lower.lowered import LoweredOp
from crisp_onnx.lower.schema import Array, OpKind
from crisp_onnx.lower.target import Target

Bound = Literal["compute", "onchip", "dram", "overhead"]

# Kinds that share a figure where a target has none of their own.
_FALLBACK: dict[OpKind, OpKind] = {"conv": "conv3x3", "grouped": "conv3x3", "gemv": "gemm"}


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer. Cycles are of the target's clock; energy is (low, nominal, high) or `None`.

    `onchip_cycles` is 0 where the target gives no on-chip bandwidth.
    """

    name: str
    op: str
    kind: OpKind
    pattern: str
    reason: str
    macs: int
    computed_macs: int
    dram_bytes: int
    stored_weight_bytes: int
    compute_cycles: int
    onchip_cycles: int
    dram_cycles: int
    overhead_cycles: float
    latency_cycles: float
    latency_ms: float
    bound: Bound
    energy: tuple[Energy, Energy, Energy] | None

    @property
    def nominal_uj(self) -> float | None:
        return None if self.energy is None else self.energy[1].total_uj


def cost_layer(op: LoweredOp, target: Target, *, linked_bytes: int | None = None) -> LayerCost:
    """latency = max(compute, on-chip, DRAM) + overhead; ties are named in this order.

    `linked_bytes`: on a target behind a host link, the weights of this layer that cross it; computing hides
    behind them.
    """
    tiling = op.tiling
    compute = _compute(op, target)
    onchip = _over(tiling.onchip_bytes, _onchip_bandwidth(target)) if tiling else 0
    reads = tiling.dram_read_bytes if tiling else op.input_bytes
    writes = tiling.dram_write_bytes if tiling else op.output_bytes
    dram = (
        _dram(reads, writes, target)
        if linked_bytes is None
        else _over(linked_bytes, target.number(target.dram.read_bw))
    )
    longest = max(compute, onchip, dram) if linked_bytes is None else dram
    overhead = _overhead(op.kind, target)
    times: dict[Bound, int] = {"compute": compute, "onchip": onchip, "dram": dram}
    bound: Bound = "overhead" if overhead > longest else max(times, key=lambda name: times[name])
    if linked_bytes is not None and longest:
        bound = "dram"
    latency = longest + overhead
    seconds = float(latency / target.clock_hz)
    energies = [energy_of(op, target, seconds, level) for level in LEVELS]
    low, nominal, high = energies
    return LayerCost(
        name=op.name,
        op=op.op,
        kind=op.kind,
        pattern=op.pattern.name,
        reason=op.seen.reason,
        macs=op.matrix.macs if op.matrix else 0,
        computed_macs=tiling.computed_macs if tiling else 0,
        dram_bytes=reads + writes,
        stored_weight_bytes=tiling.stored_weight_bytes if tiling else 0,
        compute_cycles=compute,
        onchip_cycles=onchip,
        dram_cycles=dram,
        overhead_cycles=float(overhead),
        latency_cycles=float(latency),
        latency_ms=seconds * 1000,
        bound=bound,
        energy=None if low is None or nominal is None or high is None else (low, nominal, high),
    )


def _compute(op: LoweredOp, target: Target) -> int:
    if op.tiling is None:
        return 0
    share = efficiency(target.descriptor.array, op.kind, target)
    return op.tiling.array_cycles if share is None else ceil(op.tiling.array_cycles / share)


def efficiency(array: Array, kind: OpKind, target: Target) -> Fraction | None:
    """Share of the array's peak that layers of `kind` reach, `None` where the target says nothing."""
    table = array.efficiency or {}
    return target.number(table.get(kind) or table.get(_FALLBACK.get(kind, kind)))


def _overhead(kind: OpKind, target: Target) -> Fraction:
    overhead = target.descriptor.overhead
    table = overhead.by_kind or {}
    entry = table.get(kind) or table.get(_FALLBACK.get(kind, kind)) or overhead.per_layer
    return target.number(entry) or Fraction(0)


def _onchip_bandwidth(target: Target) -> Fraction | None:
    return target.number(target.buffer.read_bw) if target.buffer else None


def _dram(reads: int, writes: int, target: Target) -> int:
    """Split ports work side by side, a shared bus does one after the other."""
    dram = target.dram
    read_bw, write_bw = target.number(dram.read_bw), target.number(dram.write_bw)
    if dram.mode == "split":
        return max(_over(reads, read_bw), _over(writes, write_bw or read_bw))
    return _over(reads + writes, read_bw)


def _over(amount: int | Fraction, rate: Fraction | None) -> int:
    return ceil(amount / rate) if rate else 0
