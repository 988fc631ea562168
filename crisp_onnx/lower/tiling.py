"""Tile a matrix product onto a target: array passes, bytes between buffer and array, bytes of DRAM."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log2

from crisp_onnx.lower.matrix import BYTES, Matrix
from crisp_onnx.lower.pattern import Pattern, Seen, block_count, kept_share, nm_bits
from crisp_onnx.lower.storage import unstructured_bytes
from crisp_onnx.lower.target import Target


@dataclass(frozen=True)
class Tiling:
    """Counts of one layer. `k_span`: values of K inside kept blocks; `k_kept`: of these, kept slots of n:m groups.

    Array time is ceil(passes / units) x k_steps x column_steps cycles. On-chip bytes pass from buffer to array; reads and
    writes are those of DRAM. `expanded`: the groups run as one block-diagonal matrix because that takes fewer cycles.
    """

    blocks: int
    kept_blocks: int
    k_span: int
    k_kept: int
    passes: int
    k_steps: int
    column_steps: int
    streams: int
    computed_macs: int
    onchip_activation_bytes: int
    onchip_weight_bytes: int
    onchip_metadata_bytes: Fraction
    weight_bytes: int
    nm_metadata_bytes: int
    block_metadata_bytes: int
    weight_tiles: int
    input_tiles: int
    dram_read_bytes: int
    dram_write_bytes: int
    residual_bytes: int
    expanded: bool = False

    @property
    def stored_weight_bytes(self) -> int:
        return self.weight_bytes + self.nm_metadata_bytes + self.block_metadata_bytes

    @property
    def onchip_bytes(self) -> Fraction:
        return self.onchip_activation_bytes + self.onchip_weight_bytes + self.onchip_metadata_bytes


def tile(matrix: Matrix, pattern: Pattern, seen: Seen, target: Target, dtype: str) -> Tiling:
    """The better of the groups one after another and, for plain grouped layers, one block-diagonal matrix."""
    apart = _tile(matrix, pattern, seen, target, dtype)
    if matrix.groups == 1 or not matrix.weighted:
        return apart
    from dataclasses import replace

    whole = replace(matrix, M=matrix.M * matrix.groups, K=matrix.K * matrix.groups, groups=1)
    joined = _tile(whole, Pattern(), Seen(), target, dtype)
    if _array_steps(joined, target) >= _array_steps(apart, target):
        return apart
    return replace(
        joined,
        weight_bytes=apart.weight_bytes,
        nm_metadata_bytes=apart.nm_metadata_bytes,
        block_metadata_bytes=apart.block_metadata_bytes,
        weight_tiles=apart.weight_tiles,
        dram_read_bytes=apart.dram_read_bytes,
        computed_macs=apart.computed_macs,
        expanded=True,
    )


def _array_steps(tiling: Tiling, target: Target) -> int:
    units = target.whole(target.descriptor.array.units)
    return -(-tiling.passes // units) * tiling.k_steps * tiling.column_steps


def _tile(matrix: Matrix, pattern: Pattern, seen: Seen, target: Target, dtype: str) -> Tiling:
    array, runs = target.descriptor.array, seen.runs_as
    size = BYTES[dtype]
    k_span, k_kept = spans(matrix.K, runs)
    k_padded = -(-k_span // runs.nm_group) * runs.nm_group if runs.has_nm else k_span
    granule = target.whole(array.n_granule)
    rows, streams = row_passes(matrix, runs, target)
    columns = -(-matrix.N // granule)
    lrf = target.number(target.descriptor.onchip.lrf_n)
    loads = -(-matrix.N // int(lrf)) if lrf else 1
    bits = _bits(pattern, runs, target) if runs.has_nm else Fraction(0)
    onchip_weights = matrix.groups * matrix.M * k_kept * loads
    stored = _stored(matrix, pattern, seen, target, size)
    weights = sum(stored)
    half = _half_buffer(target)
    inputs, residuals = matrix.inputs * size, matrix.residuals * size
    weight_tiles = max(1, ceil(weights / half)) if half else 1
    input_tiles = max(1, ceil(inputs / half)) if half else 1
    reads = min(weights + inputs * weight_tiles, inputs + weights * input_tiles) + residuals
    return Tiling(
        blocks=block_count(matrix.K, pattern.block_cols) if pattern.has_blocks else 1,
        kept_blocks=runs.kept_blocks if runs.has_blocks else 0,
        k_span=k_span,
        k_kept=k_kept,
        passes=rows * columns,
        k_steps=-(-_granular(k_kept, target.whole(array.k_granule)) // _lanes(target, dtype)),
        column_steps=granule,
        streams=streams,
        computed_macs=matrix.groups * matrix.M * k_kept * matrix.N,
        onchip_activation_bytes=rows * k_padded * matrix.N * streams * size,
        onchip_weight_bytes=onchip_weights * size,
        onchip_metadata_bytes=onchip_weights * bits / 8,
        weight_bytes=stored[0],
        nm_metadata_bytes=stored[1],
        block_metadata_bytes=stored[2],
        weight_tiles=weight_tiles,
        input_tiles=input_tiles,
        dram_read_bytes=reads,
        dram_write_bytes=matrix.outputs * size,
        residual_bytes=residuals,
    )


def spans(k: int, runs: Pattern) -> tuple[int, int]:
    """(values of K in kept blocks, kept slots among them) in every output row."""
    k_span = min(k, runs.kept_blocks * runs.block_cols) if runs.has_blocks else k
    if not runs.has_nm:
        return k_span, k_span
    return k_span, -(-k_span // runs.nm_group) * runs.nm_keep


def row_passes(matrix: Matrix, runs: Pattern, target: Target) -> tuple[int, int]:
    """(passes over the output rows of all groups, activation streams of a pass).

    Blocks as high as the array share one stream. Lower ones need a stream for every block row of a pass, and a pass holds
    no more block rows than the array has sub-partitions. Heights that do not divide the array's rows cut the pass.
    """
    array = target.descriptor.array
    rows = target.whole(array.rows)
    m = _granular(matrix.M, target.whole(array.m_granule))
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


def _granular(count: int, granule: int) -> int:
    return -(-count // granule) * granule


def _lanes(target: Target, dtype: str) -> int:
    """K values a row takes in a cycle at `dtype`; the descriptor's rows x lanes hold for `array.bits`."""
    array = target.descriptor.array
    share = target.peak_macs(dtype) / (target.whole(array.rows) * target.whole(array.units))
    return max(1, int(share))


def _half_buffer(target: Target) -> Fraction | None:
    """Bytes of the buffer that one operand may fill; `None` where nothing is known."""
    buffer = target.buffer
    capacity = target.number(buffer.capacity) if buffer else None
    if buffer is None or capacity is None:
        return None
    return capacity / 2 if buffer.double_buffer else capacity


def _bits(pattern: Pattern, stored: Pattern, target: Target) -> Fraction:
    bits = nm_bits(stored, target.nm(stored.nm_keep, stored.nm_group))
    return bits / pattern.vector_rows if target.descriptor.sparsity.hybrid_operators_only else bits


def _stored(matrix: Matrix, pattern: Pattern, seen: Seen, target: Target, size: int) -> tuple[int, int, int]:
    """Bytes of (values, n:m metadata, block indices) of the weights in DRAM."""
    if not matrix.weighted:
        return 0, 0, 0
    keeps_nm, keeps_blocks = seen.nm in ("skip", "store"), seen.block in ("skip", "store")
    if seen.unstructured != "none" and not (keeps_nm or keeps_blocks):
        support = target.descriptor.sparsity.unstructured
        codec = support.codec if support else "none"
        return unstructured_bytes(matrix.weights, float(kept_share(pattern, matrix.K)), codec, size), 0, 0
    own = Pattern(
        nm_keep=(seen.runs_as.nm_keep or pattern.nm_keep) if keeps_nm else 0,
        nm_group=(seen.runs_as.nm_group or pattern.nm_group) if keeps_nm else 0,
        block_rows=pattern.block_rows if keeps_blocks else 0,
        block_cols=pattern.block_cols if keeps_blocks else 0,
        kept_blocks=pattern.kept_blocks if keeps_blocks else 0,
    )
    _, kept = spans(matrix.K, own)
    values = matrix.groups * matrix.M * kept
    nm_bytes = ceil(values * _bits(pattern, own, target) / 8) if own.has_nm else 0
    blocks = block_count(matrix.K, own.block_cols) if own.has_blocks else 1
    block_bits = _index_bits(target, blocks)
    indices = matrix.groups * -(-matrix.M // own.block_rows) * own.kept_blocks if own.has_blocks else 0
    return values * size, nm_bytes, ceil(Fraction(indices * block_bits, 8))


def _index_bits(target: Target, blocks: int) -> int:
    support = target.descriptor.sparsity.block
    if blocks == 1:
        return 0
    if support is not None and support.index_bits is not None:
        return target.whole(support.index_bits)
    return ceil(log2(blocks))
