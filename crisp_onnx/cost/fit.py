"""Whether a model fits a target's memories: its stored weights and the most activations alive at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crisp_onnx.lowering.lowered import Lowered
from crisp_onnx.lowering.target import Target
from crisp_onnx.lowering.timing import weight_bytes

Verdict = Literal["on_chip", "off_chip", "no", "unknown"]


@dataclass(frozen=True)
class Fit:
    """Bytes of stored weights, with tables and other constants, of activations at their peak, and of the memories.

    A memory is `None` where its size is not given. `linked`: what is outside the chip is the host's. `verdict`: all of
    it on the chip; in the memory outside it; in neither; or not on the chip and how much is outside is not known.
    """

    weight_bytes: int
    peak_activation_bytes: int
    on_chip_bytes: int | None
    off_chip_bytes: int | None
    linked: bool = False

    @property
    def needed_bytes(self) -> int:
        return self.weight_bytes + self.peak_activation_bytes

    @property
    def verdict(self) -> Verdict:
        if self.on_chip_bytes is not None and self.needed_bytes <= self.on_chip_bytes:
            return "on_chip"
        if self.off_chip_bytes is None:
            return "off_chip" if self.linked else "unknown"
        return "off_chip" if self.needed_bytes <= self.off_chip_bytes else "no"


def fit(lowered: Lowered, target: Target) -> Fit:
    """Of `lowered` on `target`. Behind a host link the chip's room is that of the weights which it pins."""
    dram, buffer = target.dram, target.buffer
    on_chip = target.number(dram.pinned_weights) or (target.number(buffer.capacity) if buffer else None)
    off_chip = target.number(dram.capacity)
    return Fit(
        weight_bytes=weight_bytes(lowered.operators) + sum(op.constant_bytes for op in lowered.operators),
        peak_activation_bytes=lowered.peak_activation_bytes,
        on_chip_bytes=None if on_chip is None else int(on_chip),
        off_chip_bytes=None if off_chip is None else int(off_chip),
        linked=target.descriptor.array.design == "host_link",
    )
