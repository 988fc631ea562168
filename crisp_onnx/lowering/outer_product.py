"""Layers on a target that skips zeros of weights and activations alike, by expected folds of outer products."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt

from crisp_onnx.lowering.expectation import expected_folds
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.target import Target

ROUNDING = 1e-9  # probabilities that add up to a hair over 1 must not cost a cycle


@dataclass(frozen=True)
class OuterRun:
    """Array cycles and the values that pass from buffer to array (once per use), with the bits of their masks."""

    cycles: int
    passes: int
    macs: int
    register_accesses: int
    weight_values: float
    activation_values: float
    mask_bits: int


def outer_product(matrix: Matrix, weight_density: float, activation_density: float, target: Target) -> OuterRun:
    """The faster of the two tile shapes: as many weights as the array has rows x half as many activations, or reversed.

    A dense operand carries no mask.
    """
    rows = target.whole(target.descriptor.array.rows)
    runs = [_run(matrix, weight_density, activation_density, target, tile) for tile in _tiles(rows)]
    return min(runs, key=lambda run: run.cycles)


def _tiles(rows: int) -> tuple[tuple[int, int], ...]:
    half = max(1, rows // 2)
    return (rows, half), (half, rows)


def _run(matrix: Matrix, dw: float, da: float, target: Target, tile: tuple[int, int]) -> OuterRun:
    support = target.descriptor.sparsity.unstructured
    ga = target.whole(support.ga if support else None)
    gb = target.whole(support.gb if support else None)
    units = target.whole(target.descriptor.array.units)
    over_m = isqrt(units)
    over_n = units // over_m
    folds = expected_folds(tile[0], dw, ga), expected_folds(tile[1], da, gb)
    tiles_m, tiles_n = -(-matrix.M // tile[0]), -(-matrix.N // tile[1])
    passes = matrix.groups * -(-tiles_m // over_m) * -(-tiles_n // over_n)
    weights = matrix.groups * matrix.M * matrix.K
    activations = matrix.groups * matrix.K * matrix.N
    reads_w, reads_a = -(-tiles_n // over_n), -(-tiles_m // over_m)
    fills_w, fills_a = weights * dw * tiles_n, activations * da * tiles_m
    masks = (weights * reads_w if dw < 1 else 0) + (activations * reads_a if da < 1 else 0)
    return OuterRun(
        cycles=ceil(matrix.K * passes * folds[0] * folds[1] * (1 - ROUNDING)),
        passes=passes,
        macs=ceil(matrix.macs * dw * da),
        register_accesses=ceil(fills_w * (1 + folds[1]) + fills_a * (1 + folds[0])),
        weight_values=weights * dw * reads_w,
        activation_values=activations * da * reads_a,
        mask_bits=masks,
    )
