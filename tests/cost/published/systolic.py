"""Systolic arrays as SCALE-Sim counts them: folds of a weight-, input- or output-stationary array."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

from crisp_onnx.errors import CrispError

Dataflow = Literal["ws", "is", "os"]


@dataclass(frozen=True)
class SystolicArray:
    """`rows` x `columns` processing elements."""

    rows: int
    columns: int
    dataflow: Dataflow


@dataclass(frozen=True)
class SparseFilter:
    """Words of 32 bits that a layer-wise n:m filter takes: kept values and the place of each in its group."""

    value_words: int
    metadata_words: float

    @property
    def words(self) -> float:
        return self.value_words + self.metadata_words


def systolic_cycles(
    array: SystolicArray, M: int, K: int, N: int, *, nm: tuple[int, int] | None = None, stall_cycles: int = 0
) -> int:
    """Cycles without prefetch of activations (M, K) times weights (K, N), in SCALE-Sim's letters.

    A fold fills the array, streams the third dimension and drains. `nm`: n of m weights along K are kept, weight
    stationary only. `stall_cycles` come from a memory simulation; this formula does not predict them.

    Raises:
        CrispError: n:m on a dataflow that keeps no weights in the array.
    """
    rows, columns = array.rows, array.columns
    if nm is not None:
        if array.dataflow != "ws":
            raise CrispError(f"Dataflow {array.dataflow!r} has no n:m rows in SCALE-Sim. Use 'ws'.")
        K = ceil(K * nm[0] / nm[1])
    if array.dataflow == "ws":
        folds, stream = ceil(K / rows) * ceil(N / columns), 2 * rows + columns + M
    elif array.dataflow == "is":
        folds, stream = ceil(K / rows) * ceil(M / columns), 2 * rows + columns + N
    else:
        folds, stream = ceil(M / rows) * ceil(N / columns), rows + columns + K
    return folds * (stream - 2) - 1 + stall_cycles


def sparse_filter(K: int, N: int, nm: tuple[int, int]) -> SparseFilter:
    """Words of a layer-wise n:m filter (K, N)."""
    kept = ceil(K * nm[0] / nm[1]) * N
    return SparseFilter(kept, kept * ceil(log2(nm[1])) / 32)
