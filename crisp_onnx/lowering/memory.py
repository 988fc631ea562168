"""DRAM's side of a tiling: how weights are stored, and how often weights and inputs are read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log2

from crisp_onnx.lowering.array import register_bits, spans
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, Seen, block_count, kept_share
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.storage import unstructured_bytes
from crisp_onnx.lowering.target import Target


@dataclass(frozen=True)
class MemoryTiling:
    """The fields of `Tiling` that concern DRAM."""

    weight_bytes: int
    nm_metadata_bytes: int
    block_metadata_bytes: int
    weight_tiles: int
    input_tiles: int
    dram_read_bytes: int
    dram_write_bytes: int
    residual_bytes: int


def tile_memory(matrix: Matrix, pattern: LayerSparsity, seen: Seen, target: Target, dtype: str) -> MemoryTiling:
    """Weights once and inputs once per tile of weights, or the other way round, whichever reads less."""
    size = BYTES[dtype]
    values, nm_bytes, block_bytes = stored_bytes(matrix, pattern, seen, target, size)
    weights = values + nm_bytes + block_bytes
    inputs, residuals = matrix.inputs * size, matrix.residuals * size
    half = half_buffer(target)
    weight_tiles = max(1, ceil(weights / half)) if half else 1
    input_tiles = max(1, ceil(inputs / half)) if half else 1
    return MemoryTiling(
        weight_bytes=values,
        nm_metadata_bytes=nm_bytes,
        block_metadata_bytes=block_bytes,
        weight_tiles=weight_tiles,
        input_tiles=input_tiles,
        dram_read_bytes=min(weights + inputs * weight_tiles, inputs + weights * input_tiles) + residuals,
        dram_write_bytes=matrix.outputs * size,
        residual_bytes=residuals,
    )


def half_buffer(target: Target) -> Fraction | None:
    """Bytes of the buffer that one operand may fill; `None` where nothing is known."""
    buffer = target.buffer
    capacity = target.number(buffer.capacity) if buffer else None
    if buffer is None or capacity is None:
        return None
    return capacity / 2 if buffer.double_buffer else capacity


def stored_bytes(matrix: Matrix, pattern: LayerSparsity, seen: Seen, target: Target, size: int) -> tuple[int, int, int]:
    """Bytes of (values, n:m metadata, block indices) of the weights in DRAM."""
    if not matrix.weighted:
        return 0, 0, 0
    keeps_nm, keeps_blocks = seen.nm in ("skip", "store"), seen.block in ("skip", "store")
    if seen.unstructured != "none" and not (keeps_nm or keeps_blocks):
        support = target.descriptor.sparsity.unstructured
        codec = support.codec if support else "none"
        return unstructured_bytes(matrix.weights, float(kept_share(pattern, matrix.K)), codec, size), 0, 0
    own = LayerSparsity(
        nm_keep=(seen.runs_as.nm_keep or pattern.nm_keep) if keeps_nm else 0,
        nm_group=(seen.runs_as.nm_group or pattern.nm_group) if keeps_nm else 0,
        block_rows=pattern.block_rows if keeps_blocks else 0,
        block_cols=pattern.block_cols if keeps_blocks else 0,
        kept_blocks=pattern.kept_blocks if keeps_blocks else 0,
    )
    _, kept = spans(matrix.K, own)
    values = matrix.groups * matrix.M * kept
    nm_bytes = ceil(values * register_bits(pattern, own, target) / 8)
    blocks = block_count(matrix.K, own.block_cols) if own.has_blocks else 1
    indices = matrix.groups * -(-matrix.M // own.block_rows) * own.kept_blocks if own.has_blocks else 0
    return values * size, nm_bytes, ceil(Fraction(indices * _index_bits(target, blocks), 8))


def _index_bits(target: Target, blocks: int) -> int:
    support = target.descriptor.sparsity.block
    if blocks == 1:
        return 0
    if support is not None and support.index_bits is not None:
        return target.whole(support.index_bits)
    return ceil(log2(blocks))
