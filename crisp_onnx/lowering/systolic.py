"""Cycles of a systolic array: folds that fill the array, stream the third dimension and drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crisp_onnx.lowering.matrix import Matrix


@dataclass(frozen=True)
class SystolicRun:
    """Cycles, folds, and the values of weights and activations that enter the array."""

    cycles: int
    folds: int
    weight_values: int
    activation_values: int


def systolic(matrix: Matrix, k: int, rows: int, columns: int, dataflow: Literal["ws", "is", "os"]) -> SystolicRun:
    """`k` values along K on `rows` x `columns` elements that hold weights (ws), inputs (is) or outputs (os).

    Source: SCALE-Sim 3.0.0, cycles without prefetch and without stalls of its memory.
    """
    over_k, over_m, over_n = -(-k // rows), -(-matrix.M // columns), -(-matrix.N // columns)
    weights, inputs = matrix.M * k, k * matrix.N
    if dataflow == "ws":
        folds, stream, moved = over_k * over_m, 2 * rows + columns + matrix.N, (weights, inputs * over_m)
    elif dataflow == "is":
        folds, stream, moved = over_k * over_n, 2 * rows + columns + matrix.M, (weights * over_n, inputs)
    else:
        tall = -(-matrix.N // rows)
        folds, stream, moved = tall * over_m, rows + columns + k, (weights * tall, inputs * over_m)
    groups = matrix.groups
    return SystolicRun(groups * folds * (stream - 2) - 1, groups * folds, groups * moved[0], groups * moved[1])
