"""Cycles of one lowered layer: compute, on-chip and DRAM, the largest of them, and the fixed overhead."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from crisp_onnx.cost.energy import LEVELS, Energy, energy_of
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.lowering.cycles import compute_cycles, dram_cycles, onchip_cycles, over, overhead_cycles
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.schema import OpKind
from crisp_onnx.lowering.target import Target
from crisp_onnx.lowering.timing import PARTS, fetched_share, stand_ins, timing_kind, weight_bytes, work

Bound = Literal["compute", "onchip", "dram", "overhead"]


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


@dataclass(frozen=True)
class Link:
    """Bytes of a layer's weights that cross the host link.

    The chip computes while they do. `hidden`: computing the model takes longer, so that the layer takes what it
    computes; otherwise what crosses, and computing is hidden.
    """

    weight_bytes: int
    hidden: bool = False


@dataclass(frozen=True)
class _Cycles:
    """Cycles of one layer; `busy` is what they come to together without the overhead."""

    compute: int
    onchip: int
    dram: int
    busy: Fraction
    overhead: Fraction
    bound: Bound


def cost_layer(
    op: LoweredOp, target: Target, *, link: Link | None = None, model_weight_bytes: int | None = None
) -> LayerCost:
    """latency = max(compute, on-chip, DRAM) + overhead; ties are named in this order.

    On a measured processor, whose parts were fitted as a sum, compute and on-chip add up.
    `model_weight_bytes`: of the whole model on such a processor, by default this layer alone. They decide how many of
    the layer's a run fetches anew, and beyond the last cache all of them come from DRAM every time.
    `link`: on a target behind a host link, what of this layer crosses it.
    """
    tiling = op.tiling
    reads, writes = op.dram_bytes
    if target.descriptor.timing is not None:
        cycles = _measured(op, target, weight_bytes([op]) if model_weight_bytes is None else model_weight_bytes)
    elif link is not None:
        cycles = _linked(op, target, link)
    else:
        cycles = _modelled(op, target, reads, writes)
    latency = cycles.busy + cycles.overhead
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
        compute_cycles=cycles.compute,
        onchip_cycles=cycles.onchip,
        dram_cycles=cycles.dram,
        overhead_cycles=float(cycles.overhead),
        latency_cycles=float(latency),
        latency_ms=seconds * 1000,
        bound=cycles.bound,
        energy=None if low is None or nominal is None or high is None else (low, nominal, high),
    )


def _modelled(op: LoweredOp, target: Target, reads: int, writes: int) -> _Cycles:
    compute = compute_cycles(op.tiling, op.kind, target) if op.tiling else 0
    onchip = onchip_cycles(op.onchip_bytes, target)
    dram = dram_cycles(reads, writes, target)
    return _together(compute, onchip, dram, Fraction(max(compute, onchip, dram)), overhead_cycles(op.kind, target))


def _linked(op: LoweredOp, target: Target, link: Link) -> _Cycles:
    dram = over(link.weight_bytes, target.number(target.dram.read_bw))
    compute = compute_cycles(op.tiling, op.kind, target) if op.tiling else 0
    if link.hidden:
        return _Cycles(compute, 0, dram, Fraction(compute), Fraction(0), "compute")
    return _Cycles(compute, 0, dram, Fraction(dram), overhead_cycles(op.kind, target), "dram" if dram else "compute")


def _measured(op: LoweredOp, target: Target, model_weight_bytes: int) -> _Cycles:
    """Fitted parts of the layer's kind; weights that come from DRAM take at least their bytes over its bandwidth."""
    timing = target.descriptor.timing
    if timing is None:
        raise Defect(f"{target.name} has no timing.")
    granule = target.whole(timing.granule)
    kind = next((kind for kind in stand_ins(timing_kind(op, granule)) if kind in timing.kinds), None)
    if kind is None:
        raise CrispError(f"{target.path}, key timing.kinds: no entry for {op.op} {op.name!r}. Calibrate again.")
    parts = [target.number(getattr(timing.kinds[kind], part)) or Fraction(0) for part in PARTS]
    cache = float(target.number(target.buffer.capacity) or 0) if target.buffer else 0.0
    near = float(target.number(timing.near) or 0)
    amounts = [Fraction(amount) for amount in work(op, granule, fetched_share(model_weight_bytes, cache), near)]
    overhead, compute, *moved = (rate * amount for rate, amount in zip(parts, amounts, strict=True))
    onchip = sum(moved, Fraction(0))
    weights = op.tiling.stored_weight_bytes if op.tiling and model_weight_bytes > cache > 0 else 0
    dram = over(weights, target.number(target.dram.read_bw))
    return _together(ceil(compute), ceil(onchip), dram, max(compute + onchip, Fraction(dram)), overhead)


def _together(compute: int, onchip: int, dram: int, busy: Fraction, overhead: Fraction) -> _Cycles:
    times: dict[Bound, int] = {"compute": compute, "onchip": onchip, "dram": dram}
    bound: Bound = "overhead" if overhead > busy else max(times, key=lambda name: times[name])
    return _Cycles(compute, onchip, dram, busy, overhead, bound)
