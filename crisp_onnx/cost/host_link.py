"""Accelerators behind a host link: weights that do not fit on the chip cross the link at every inference."""

from __future__ import annotations

from fractions import Fraction

from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.target import Target


def link_bytes(weight_bytes: int, target: Target) -> Fraction:
    """Bytes of weights that cross the link at every inference."""
    pinned = target.number(target.dram.pinned_weights) or Fraction(0)
    return max(Fraction(0), weight_bytes - pinned)


def link_latency_ms(weight_bytes: int, target: Target) -> float:
    """ms of one inference of a model with `weight_bytes` of int8 weights: a fixed part and what crosses the link.

    Raises:
        CrispError: the target has no bandwidth of its first memory, the link.
    """
    bandwidth = target.number(target.dram.read_bw)
    if bandwidth is None:
        raise CrispError(f"{target.path}, key memory.0.read_bw: null, but the link decides on this target. Add it.")
    fixed = target.number(target.descriptor.overhead.per_inference) or Fraction(0)
    return float((fixed + link_bytes(weight_bytes, target) / bandwidth) / target.clock_hz * 1000)
