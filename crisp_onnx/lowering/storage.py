"""Bytes of weights whose zeros stand anywhere, by the codec of the target."""

from __future__ import annotations

from math import ceil, log2
from typing import Literal

Codec = Literal["bitmask", "entropy", "none"]
VALUE_BITS = 7.4  # of an int8 weight after the Ethos-U encoder; Vela 5.2.0 on normally distributed weights


def unstructured_bytes(weights: int, density: float, codec: Codec, size: int) -> int:
    """Bytes of `weights` values of `size` bytes at `density` nonzeros.

    bitmask: the nonzeros and one bit for every position. entropy: the weight encoder of the Ethos-U, (7.4 d + H2(d))
    / 8 bytes a weight, dense weights included; shorter than 10 kB its headers weigh more than this formula says.
    """
    if codec == "bitmask":
        return weights * size if density >= 1 else ceil(weights * size * density + weights / 8)
    if codec == "entropy":
        return ceil(weights * size * (VALUE_BITS * density + binary_entropy(density)) / 8)
    return weights * size


def binary_entropy(share: float) -> float:
    """Bits per symbol of a source that says yes with probability `share`."""
    if share <= 0 or share >= 1:
        return 0.0
    return -share * log2(share) - (1 - share) * log2(1 - share)
