"""The roofs of a target over the layers of a model: the dense MACs a second that array and memory let through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from crisp_onnx.cost import LayerCost
from crisp_onnx.lowering import Target

# Below this difference two roofs would be one line.
SAME = 1.01
ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Roof:
    """`rate`: dense MACs a second at most."""

    label: str
    rate: float


@dataclass(frozen=True)
class Roofs:
    """`compute`: from the lowest to the highest. `bandwidth`: bytes a second of the memory, None where unknown.

    `memory_label` says of what the bandwidth is.
    """

    compute: tuple[Roof, ...]
    bandwidth: float | None
    memory_label: str

    @property
    def highest(self) -> float:
        return self.compute[-1].rate

    def limit(self, intensity: float, rate: float) -> float:
        """What is reached at most below the compute roof `rate` with that many MACs a byte of memory."""
        return rate if self.bandwidth is None else min(rate, self.bandwidth * intensity)

    def beyond(self, intensity: float, rate: float) -> bool:
        """Whether more is reached than the memory lets through: the data stay on the chip."""
        return rate > ROUNDING * self.limit(intensity, inf)


def reached(layer: LayerCost, target: Target) -> tuple[float, float]:
    """Dense MACs a byte of memory, and dense MACs a second.

    Where computing hides behind a host link, at the pace of the slower of both.
    """
    cycles = max(layer.latency_cycles, layer.compute_cycles)
    return layer.macs / layer.dram_bytes, layer.macs * float(target.clock_hz) / cycles


def roofs(layers: Sequence[LayerCost], target: Target, dtype: str) -> Roofs:
    """The dense roof, one for each N:M whose zeros the target skips, and that of the layer of which it computes least.

    Dense MACs count, so that a layer whose zeros are skipped may lie above the dense roof.
    """
    clock = float(target.clock_hz)
    dense = float(target.peak_macs(dtype)) * clock
    found = [Roof("dense roof", dense)]
    for support in target.descriptor.sparsity.nm:
        if support.compute == "skip":
            gain = support.group / support.keep
            limit = target.number(support.max_speedup)
            found.append(Roof(f"{support.pattern} roof", dense * (min(gain, float(limit)) if limit else gain)))
    shares = [layer.computed_macs / layer.macs for layer in layers if layer.macs and layer.computed_macs]
    least = min(shares, default=1.0)
    # On a measured processor the array's peak is a figure of its own, and a kind of layer may have been faster.
    fastest = max((clock * layer.macs / layer.compute_cycles for layer in layers if layer.compute_cycles), default=0.0)
    top = max(dense / least, fastest)
    if top > SAME * max(roof.rate for roof in found):
        found.append(Roof(f"roof where {100 * least:.3g} % of the MACs are computed", top))
    return Roofs(tuple(sorted(found, key=lambda roof: roof.rate)), *_memory(target))


def _memory(target: Target) -> tuple[float | None, str]:
    """Bytes a second, and what to call them; ports that read and write side by side count together."""
    bandwidth = target.number(target.dram.read_bw)
    if bandwidth is None:
        return None, ""
    read = float(bandwidth * target.clock_hz)
    if target.dram.mode != "split":
        return read, f"memory roof, {read / 1e9:.4g} GB/s of reads and writes in turn"
    write = float((target.number(target.dram.write_bw) or bandwidth) * target.clock_hz)
    label = f"memory roof, {(read + write) / 1e9:.4g} GB/s: {read / 1e9:.4g} of reads and {write / 1e9:.4g} of writes"
    return read + write, f"{label} at a time"
