"""Layers on a target that skips zeros of weights and activations alike, by expected folds of outer products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from crisp_onnx.lowering.expectation import expected_folds
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.target import Target


@dataclass(frozen=True)
class OuterRun:
    """Array cycles, and what passes from buffer to array (values once per use), with the bits of the masks.

    `k`: values along K, padded. `tile`: outputs that all units hold together, (rows, columns). `weight_density`,
    `activation_density`: 1 where the operands are not compressed. `weight_mask_bits`, `activation_mask_bits`: of the
    whole operands.
    """

    cycles: float
    k: int
    passes: int
    macs: float
    register_accesses: float
    weight_values: float
    activation_values: float
    moved_mask_bits: float
    weight_mask_bits: float
    activation_mask_bits: float
    weight_density: float
    activation_density: float
    tile: tuple[int, int]
    partial_sums: int


def outer_product(matrix: Matrix, k: int, weight_density: float, activation_density: float, target: Target) -> OuterRun:
    """The fastest of the tile shapes that a unit may hold, for `k` values along K.

    A product from which skipping gains less than the target's `dense_above` says runs dense, without masks.
    """
    runs = [_run(matrix, k, weight_density, activation_density, target, tile) for tile in _tiles(target)]
    return min(runs, key=lambda run: (run.cycles, run.weight_values + run.activation_values))


def _tiles(target: Target) -> Iterator[tuple[int, int]]:
    array = target.descriptor.array
    rows = target.whole(array.tile_m, target.whole(array.rows))
    columns = target.whole(array.tile_n, max(1, rows // 2))
    yield rows, columns
    if rows != columns:
        yield columns, rows


def _run(matrix: Matrix, k: int, dw: float, da: float, target: Target, tile: tuple[int, int]) -> OuterRun:
    support, onchip = target.descriptor.sparsity.unstructured, target.descriptor.onchip
    ga = target.whole(support.ga if support else None)
    gb = target.whole(support.gb if support else None)
    whole = -(-tile[0] // ga) * -(-tile[1] // gb)
    above = target.number(support.dense_above) if support else None
    if above is not None and expected_folds(tile[0], dw, ga) * expected_folds(tile[1], da, gb) > above * whole:
        dw = da = 1.0
    units = target.whole(target.descriptor.array.units)
    over_m = isqrt(units)
    over_n = units // over_m
    folds = expected_folds(tile[0], dw, ga), expected_folds(tile[1], da, gb)
    tiles_m, tiles_n = -(-matrix.M // tile[0]), -(-matrix.N // tile[1])
    reads_w, reads_a = -(-tiles_n // over_n), -(-tiles_m // over_m)
    weights, activations = matrix.groups * matrix.M * k, matrix.groups * k * matrix.N
    macs = weights * matrix.N * dw * da
    kept = target.number(onchip.accumulate_k)
    outputs = matrix.groups * matrix.M * matrix.N
    trips = 1 if kept is None else -(-k // int(kept))
    rate = target.number(onchip.accumulator_rate)
    sums = macs + (outputs * trips if trips > 1 else 0)
    busy = k * matrix.groups * reads_a * reads_w * folds[0] * folds[1]
    mask_w = _mask_bits(weights, dw, ga, tile[0], target)
    mask_a = _mask_bits(activations, da, gb, tile[1], target)
    fills_w, fills_a = weights * dw * tiles_n, activations * da * tiles_m
    return OuterRun(
        k=k,
        cycles=max(busy, float(sums / units / rate) if rate else 0.0),
        passes=matrix.groups * reads_a * reads_w,
        macs=macs,
        register_accesses=fills_w * (1 + folds[1]) + fills_a * (1 + folds[0]),
        weight_values=weights * dw * reads_w,
        activation_values=activations * da * reads_a,
        moved_mask_bits=mask_w * reads_w + mask_a * reads_a,
        weight_mask_bits=mask_w,
        activation_mask_bits=mask_a,
        weight_density=dw,
        activation_density=da,
        tile=(tile[0] * over_m, tile[1] * over_n),
        partial_sums=outputs * (trips - 1),
    )


def _mask_bits(values: int, density: float, granule: int, tile: int, target: Target) -> float:
    """A bit a position, and one for every granule or tile vector where the target has those; none where all is dense.

    A granule without a nonzero then carries no mask.
    """
    support = target.descriptor.sparsity.unstructured
    per = support.mask_per if support else None
    if per == "granule":
        return values * (1 - (1 - density) ** granule + 1 / granule)
    if density >= 1:
        return 0.0
    return float(values) if per is None else values * (1 - (1 - density) ** granule + 1 / tile)
