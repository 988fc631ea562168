"""Cycles of a tiling: of the array, of the buffer's port and of DRAM, each as if it worked alone."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from crisp_onnx.lowering.schema import OpKind
from crisp_onnx.lowering.target import Target
from crisp_onnx.lowering.tiling import Tiling

# Kinds that share a figure where a target has none of their own.
WHOLE_KINDS: tuple[OpKind, ...] = ("conv3x3", "conv1x1")
FALLBACK: dict[OpKind, OpKind] = {"conv": "conv3x3", "grouped": "conv3x3", "gemv": "gemm"}


def compute_cycles(tiling: Tiling, kind: OpKind, target: Target) -> int:
    """Of the array, at the share of its peak that layers of `kind` reach."""
    share = efficiency(kind, target)
    own = tiling.array_cycles if share is None else ceil(tiling.array_cycles / share)
    if not tiling.whole_cycles or share is None:
        return own
    # Groups that reach little of the peak by themselves may run as one block-diagonal matrix.
    whole = max(efficiency(dense, target) or Fraction(1) for dense in WHOLE_KINDS)
    return min(own, ceil(tiling.whole_cycles / whole))


def efficiency(kind: OpKind, target: Target) -> Fraction | None:
    """Share of the array's peak that layers of `kind` reach, `None` where the target says nothing."""
    table = target.descriptor.array.efficiency or {}
    return target.number(table.get(kind) or table.get(FALLBACK.get(kind, kind)))


def overhead_cycles(kind: OpKind, target: Target) -> Fraction:
    """That a layer of `kind` takes whatever its size."""
    overhead = target.descriptor.overhead
    table = overhead.by_kind or {}
    return target.number(table.get(kind) or table.get(FALLBACK.get(kind, kind)) or overhead.per_layer) or Fraction(0)


def onchip_cycles(moved: int | Fraction, target: Target) -> int:
    """Of `moved` bytes between buffer and array."""
    return over(moved, target.number(target.buffer.read_bw) if target.buffer else None)


def dram_cycles(reads: int, writes: int, target: Target) -> int:
    """Split ports work side by side, a shared bus does one after the other."""
    dram = target.dram
    read_bw, write_bw = target.number(dram.read_bw), target.number(dram.write_bw)
    if dram.mode == "split":
        return max(over(reads, read_bw), over(writes, write_bw or read_bw))
    return over(reads + writes, read_bw)


def busy_cycles(tiling: Tiling, kind: OpKind, target: Target) -> int:
    """The largest of the three."""
    return max(
        compute_cycles(tiling, kind, target),
        onchip_cycles(tiling.onchip_bytes, target),
        dram_cycles(tiling.dram_read_bytes, tiling.dram_write_bytes, target),
    )


def over(amount: int | Fraction, rate: Fraction | None) -> int:
    """`amount` over `rate`, rounded up, in whole numbers; 0 where no rate is given."""
    if not rate:
        return 0
    return -(-amount.numerator * rate.denominator // (amount.denominator * rate.numerator))
