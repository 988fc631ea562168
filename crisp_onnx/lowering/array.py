"""The compute array's side of a tiling: passes, cycles at peak, and what moves between buffer and array."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from crisp_onnx.lowering.ethos_u import ethos_u_cycles
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, Seen, kept_share, nm_bits
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.outer_product import outer_product
from crisp_onnx.lowering.target import Target


@dataclass(frozen=True)
class ArrayTiling:
    """The fields of `Tiling` that concern array, registers and buffer."""

    k_span: int
    k_kept: int
    passes: int
    k_steps: int
    column_steps: int
    streams: int
    array_cycles: int
    computed_macs: int
    gated_macs: int
    register_accesses: int
    accumulator_updates: int
    metadata_bits_per_value: float
    onchip_activation_bytes: int
    onchip_weight_bytes: int
    onchip_metadata_bits: int


def tile_array(
    matrix: Matrix, pattern: LayerSparsity, seen: Seen, target: Target, *, dtype: str, activation_density: float
) -> ArrayTiling:
    """Passes of the array over a layer, by the design of the target."""
    if target.descriptor.array.design == "outer_product":
        return _outer(matrix, pattern, target, dtype, activation_density)
    return _lanes(matrix, pattern, seen, target, dtype)


def _lanes(matrix: Matrix, pattern: LayerSparsity, seen: Seen, target: Target, dtype: str) -> ArrayTiling:
    array, runs = target.descriptor.array, seen.runs_as
    size = BYTES[dtype]
    k_span, k_kept = spans(matrix.K, runs)
    k_padded = -(-k_span // runs.nm_group) * runs.nm_group if runs.has_nm else k_span
    granule = target.whole(array.n_granule)
    rows, streams = row_passes(matrix, runs, target)
    passes = rows * -(-matrix.N // granule)
    lanes = lanes_at(target, dtype)
    k_steps = -(-granular(k_kept, target.whole(array.k_granule)) // lanes)
    bits = register_bits(pattern, runs, target)
    lrf = target.number(target.descriptor.onchip.lrf_n)
    loads = matrix.groups * matrix.M * k_kept * (-(-matrix.N // int(lrf)) if lrf else 1)
    computed = matrix.groups * matrix.M * k_kept * matrix.N
    gated = seen.nm == "gate" or seen.block == "gate" or seen.unstructured == "gate"
    cycles = -(-passes // target.whole(array.units)) * k_steps * granule
    activations = rows * k_padded * matrix.N * streams
    if array.design == "ethos_u":
        cycles = ethos_u_cycles(matrix, target.whole(array.units))
        activations = matrix.inputs  # a buffer of its own, filled once, feeds the array
    return ArrayTiling(
        k_span=k_span,
        k_kept=k_kept,
        passes=passes,
        k_steps=k_steps,
        column_steps=granule,
        streams=streams,
        array_cycles=max(cycles, _slowest_gain(matrix, runs, target, dtype)),
        computed_macs=computed,
        gated_macs=computed - ceil(kept_share(pattern, matrix.K) * matrix.macs) if gated else 0,
        register_accesses=computed + loads,
        accumulator_updates=matrix.groups * matrix.M * matrix.N * -(-k_kept // lanes),
        metadata_bits_per_value=float(bits),
        onchip_activation_bytes=activations * size,
        onchip_weight_bytes=loads * size,
        onchip_metadata_bits=ceil(loads * bits),
    )


def _slowest_gain(matrix: Matrix, runs: LayerSparsity, target: Target, dtype: str) -> int:
    """Least cycles of an n:m layer where the target states that skipping gains at most `max_speedup`."""
    support = target.nm(runs.nm_keep, runs.nm_group) if runs.has_nm else None
    limit = target.number(support.max_speedup) if support else None
    if not limit:
        return 0
    array = target.descriptor.array
    granule = target.whole(array.n_granule)
    k_span, _ = spans(matrix.K, runs)
    passes = row_passes(matrix, runs, target)[0] * -(-matrix.N // granule)
    steps = -(-granular(k_span, target.whole(array.k_granule)) // lanes_at(target, dtype))
    return ceil(-(-passes // target.whole(array.units)) * steps * granule / limit)


def _outer(
    matrix: Matrix, pattern: LayerSparsity, target: Target, dtype: str, activation_density: float
) -> ArrayTiling:
    density = float(kept_share(pattern, matrix.K))
    run = outer_product(matrix, density, activation_density, target)
    size = BYTES[dtype]
    return ArrayTiling(
        k_span=matrix.K,
        k_kept=matrix.K,
        passes=run.passes,
        k_steps=matrix.K,
        column_steps=1,
        streams=1,
        array_cycles=run.cycles,
        computed_macs=run.macs,
        gated_macs=0,
        register_accesses=run.register_accesses,
        accumulator_updates=run.macs,
        metadata_bits_per_value=0.0,
        onchip_activation_bytes=ceil(run.activation_values * size),
        onchip_weight_bytes=ceil(run.weight_values * size),
        onchip_metadata_bits=run.mask_bits,
    )


def spans(k: int, runs: LayerSparsity) -> tuple[int, int]:
    """(values of K in kept blocks, kept slots among them) in every output row."""
    k_span = min(k, runs.kept_blocks * runs.block_cols) if runs.has_blocks else k
    if not runs.has_nm:
        return k_span, k_span
    return k_span, -(-k_span // runs.nm_group) * runs.nm_keep


def row_passes(matrix: Matrix, runs: LayerSparsity, target: Target) -> tuple[int, int]:
    """(passes over the output rows of all groups, activation streams of a pass).

    Blocks as high as the array share one stream. Lower ones need a stream for every block row of a pass, and a pass
    holds no more block rows than the array has sub-partitions. Heights that do not divide the rows cut the pass.
    """
    array = target.descriptor.array
    rows = target.whole(array.rows)
    m = granular(matrix.M, target.whole(array.m_granule))
    height = runs.block_rows
    if runs.has_blocks and height < rows:
        parts = target.whole(array.subpartitions)
        streams = min(parts, -(-rows // height))
        if rows % height:
            cut = sum(-(-min(height, m - start) // rows) for start in range(0, m, height))
            return matrix.groups * cut, streams
        return matrix.groups * -(-m // min(rows, height * parts)), streams
    if array.group_parallel and m < rows:
        return -(-matrix.groups * m // rows), 1
    return matrix.groups * -(-m // rows), 1


def granular(count: int, granule: int) -> int:
    return -(-count // granule) * granule


def lanes_at(target: Target, dtype: str) -> int:
    """K values a row takes in a cycle at `dtype`; the descriptor's rows x lanes hold for `array.bits`."""
    array = target.descriptor.array
    share = target.peak_macs(dtype) / (target.whole(array.rows) * target.whole(array.units))
    return max(1, int(share))


def register_bits(pattern: LayerSparsity, stored: LayerSparsity, target: Target) -> Fraction:
    """Metadata bits per kept value; the hybrid format shares them among its vector rows."""
    if not stored.has_nm:
        return Fraction(0)
    bits = nm_bits(stored, target.nm(stored.nm_keep, stored.nm_group))
    return bits / pattern.vector_rows if target.descriptor.sparsity.hybrid_operators_only else bits
