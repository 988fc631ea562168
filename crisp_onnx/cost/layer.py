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
from crisp_onnx.lowering.timing import PARTS, WEIGHT_PARTS, fetched_share, stand_ins, timing_kind, weight_bytes, work

Bound = Literal["compute", "onchip", "dram", "overhead"]
Resource = Literal["compute", "onchip", "dram", "overhead", "weights", "activations"]


@dataclass(frozen=True)
class LayerPart:
    """A stretch of a layer's time: what takes it and, where something else works as long at once, what that is.

    Without the first, the time `beside` another would be left. On a measured processor the bytes of `weights` and of
    `activations` take times of their own.
    """

    resource: Resource
    beside: Bound | None
    ms: float


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer. Cycles are of the target's clock; energy is (low, nominal, high) or `None`.

    `onchip_cycles` is 0 where the target gives no on-chip bandwidth. `parts` add up to `latency_ms`.
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
    parts: tuple[LayerPart, ...]

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


Stretches = tuple[tuple[Resource, Bound | None, Fraction], ...]


@dataclass(frozen=True)
class _Cycles:
    """Cycles of one layer; `busy`, to which `stretches` add up, is what they come to together without the overhead."""

    compute: int
    onchip: int
    dram: int
    busy: Fraction
    overhead: Fraction
    bound: Bound
    stretches: Stretches


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
    seconds, clock_hz = float(latency / target.clock_hz), float(target.clock_hz)
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
        parts=tuple(
            LayerPart(resource, beside, 1000 * float(length) / clock_hz)
            for resource, beside, length in (*cycles.stretches, ("overhead", None, cycles.overhead))
            if length > 0
        ),
    )


def _modelled(op: LoweredOp, target: Target, reads: int, writes: int) -> _Cycles:
    compute = compute_cycles(op.tiling, op.kind, target) if op.tiling else 0
    onchip = onchip_cycles(op.onchip_bytes, target)
    dram = dram_cycles(reads, writes, target)
    times: dict[Bound, int] = {"compute": compute, "onchip": onchip, "dram": dram}
    longest, second, _ = sorted(times, key=lambda name: -times[name])
    stretches: Stretches = (
        (longest, None, Fraction(times[longest] - times[second])),
        (longest, second, Fraction(times[second])),
    )
    return _together(times, Fraction(times[longest]), overhead_cycles(op.kind, target), stretches)


def _linked(op: LoweredOp, target: Target, link: Link) -> _Cycles:
    dram = over(link.weight_bytes, target.number(target.dram.read_bw))
    compute = compute_cycles(op.tiling, op.kind, target) if op.tiling else 0
    if link.hidden:
        busy = Fraction(compute)
        return _Cycles(compute, 0, dram, busy, Fraction(0), "compute", (("compute", None, busy),))
    busy, overhead = Fraction(dram), overhead_cycles(op.kind, target)
    return _Cycles(compute, 0, dram, busy, overhead, "dram" if dram else "compute", (("dram", None, busy),))


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
    spent = {part: rate * amount for part, rate, amount in zip(PARTS, parts, amounts, strict=True)}
    overhead, compute = spent.pop("fixed"), spent.pop("mac") + spent.pop("row")
    weighing = sum((spent.pop(part) for part in WEIGHT_PARTS), Fraction(0))
    moving = sum(spent.values(), Fraction(0))
    onchip = weighing + moving
    weights = op.tiling.stored_weight_bytes if op.tiling and model_weight_bytes > cache > 0 else 0
    dram = over(weights, target.number(target.dram.read_bw))
    busy = max(compute + onchip, Fraction(dram))
    stretches: Stretches = (
        ("compute", None, compute), ("weights", None, weighing), ("activations", None, moving),
        ("dram", None, busy - compute - onchip),
    )  # fmt: skip
    return _together({"compute": ceil(compute), "onchip": ceil(onchip), "dram": dram}, busy, overhead, stretches)


def _together(times: dict[Bound, int], busy: Fraction, overhead: Fraction, stretches: Stretches) -> _Cycles:
    bound: Bound = "overhead" if overhead > busy else max(times, key=lambda name: times[name])
    return _Cycles(times["compute"], times["onchip"], times["dram"], busy, overhead, bound, stretches)
