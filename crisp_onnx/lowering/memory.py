"""DRAM's side of a tiling: how weights are stored, and how often weights and inputs are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, log2

from crisp_onnx.lowering.array import Work, activation_storage, register_bits, spans
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, Seen, block_count, kept_share
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.outer_product import OuterRun
from crisp_onnx.lowering.reuse import ONCE, Operand, Reuse, in_halves, shared
from crisp_onnx.lowering.storage import unstructured_bytes
from crisp_onnx.lowering.target import Target

BLOCK_INDEX_BITS = 32
"""Of a block in the hybrid format."""


@dataclass(frozen=True)
class Stay:
    """What of a layer's activations is on the chip already or stays there: bytes read, and whether the output does.

    `occupied`: bytes of the buffer that activations take while the layer runs. `inner_input`, `inner_output`: whether
    another operator writes the input and another reads the output.
    """

    read_bytes: int = 0
    output: bool = False
    occupied: int = 0
    inner_input: bool = False
    inner_output: bool = False


NOWHERE = Stay()


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
    dram_metadata_bytes: int = 0
    kept_output_bytes: int = 0


@dataclass(frozen=True)
class Operands:
    """Bytes of weights and inputs as DRAM holds them, values apart from what says where they stand."""

    weights: int
    nm_metadata: int
    block_metadata: int
    inputs: int
    input_metadata: int

    @property
    def weight_metadata(self) -> int:
        return self.nm_metadata + self.block_metadata


def stored(work: Work) -> Operands:
    """The operands of `work` in DRAM."""
    matrix, size = work.matrix, BYTES[work.dtype]
    values, nm_bytes, block_bytes = stored_bytes(matrix, work.pattern, work.seen, work.target, size, work.outer)
    share, mask = activation_storage(work)
    padded = padded_inputs(work)
    if work.outer is not None and mask:
        share = work.outer.activation_density
        whole = matrix.groups * work.outer.k * matrix.N
        mask_bits = work.outer.activation_mask_bits * float(padded) / whole if whole else 0.0
    else:
        mask_bits = float(padded * mask)
    if work.ethos is not None:
        return Operands(values, nm_bytes, block_bytes, 0 if work.ethos.input_on_chip else work.ethos.input_bytes, 0)
    return Operands(values, nm_bytes, block_bytes, ceil(padded * size * Fraction(repr(share))), ceil(mask_bits / 8))


def padded_inputs(work: Work) -> Fraction:
    """Input values with K padded to the array's granule, where it has one."""
    matrix, granule = work.matrix, work.target.whole(work.target.descriptor.array.k_granule)
    if granule == 1:
        return Fraction(matrix.inputs)
    if work.outer is not None:
        span = work.outer.k
    else:
        runs = work.seen.runs_as
        span = spans(matrix.K, LayerSparsity(runs.nm_keep, runs.nm_group), granule)[1]
    return Fraction(matrix.inputs * span, matrix.K)


def reuses(work: Work, operands: Operands, stay: Stay = NOWHERE) -> list[Reuse]:
    """The ways in which the buffer may be shared among weights and inputs."""
    target, matrix = work.target, work.matrix
    buffer = target.buffer
    capacity = target.number(buffer.capacity) if buffer else None
    columns = target.number(target.descriptor.onchip.lrf_n)
    if buffer is None or capacity is None or work.ethos is not None:
        return [replace(ONCE, columns=int(columns or 0))]
    inputs = max(0, operands.inputs - stay.read_bytes)
    if buffer.double_buffer:
        whole = operands.weights + operands.weight_metadata
        found = in_halves(whole, inputs, float(capacity) / 2)
        return [replace(found, columns=int(columns or 0))]
    room = float(capacity) - stay.occupied
    groups, size = matrix.groups, BYTES[work.dtype]
    unit_m, units_n = _units(work, columns)
    rows = Operand(matrix.M, *_each(operands.weights / groups, matrix.M, work, size), unit_m)
    dense_each = float(padded_inputs(work)) * size / groups / max(1, matrix.N)
    whole_inputs = inputs / groups
    columns_operand = Operand(matrix.N, dense_each if inputs else 0.0, whole_inputs, units_n[0])
    if not inputs:  # nothing is streamed past the weights
        return [replace(ONCE, columns=units_n[0] if columns else 0)]
    ways = shared(rows, columns_operand, room, units_n)
    return ways if columns else [replace(way, columns=0) for way in ways]


def _each(total: float, count: int, work: Work, size: int) -> tuple[float, float]:
    """(bytes that a row may hold at most, bytes of all rows)."""
    if work.outer is not None:
        return float(work.outer.k * size), total
    return total / count, total


def _units(work: Work, columns: Fraction | None) -> tuple[int, tuple[int, ...]]:
    """(rows, columns) of the smallest tiles of weights and of inputs."""
    if work.outer is not None:
        least = min(work.outer.tile)  # whichever way round the tiles of the array lie
        return least, (least,)
    array = work.target.descriptor.array
    rows = work.target.whole(array.rows)
    if columns is None:
        return rows, (work.target.whole(array.n_granule),)
    most = int(columns)
    return rows, (most, max(1, most // 2)) if most > 1 else (most,)


def tile_memory(work: Work, operands: Operands, reuse: Reuse, stay: Stay = NOWHERE) -> MemoryTiling:
    """Bytes from and to DRAM. Activations that are on the chip already or stay there do not count."""
    matrix, size = work.matrix, BYTES[work.dtype]
    inputs, left = max(0, operands.inputs - stay.read_bytes), max(0, stay.read_bytes - operands.inputs)
    outputs = matrix.outputs * size
    if work.ethos is not None:  # whole bursts, and inputs as often as blocks need them
        inputs, left = operands.inputs, max(0, stay.read_bytes - matrix.inputs * size)
        outputs = work.ethos.output_bytes
    residuals = max(0, matrix.residuals * size - left)
    input_metadata = operands.input_metadata if inputs else 0
    metadata = operands.weight_metadata * reuse.weight_reads + input_metadata * reuse.input_reads
    return MemoryTiling(
        weight_bytes=operands.weights,
        nm_metadata_bytes=operands.nm_metadata,
        block_metadata_bytes=operands.block_metadata,
        weight_tiles=reuse.weight_tiles,
        input_tiles=reuse.input_tiles,
        dram_read_bytes=operands.weights * reuse.weight_reads + inputs * reuse.input_reads + metadata + residuals,
        dram_write_bytes=0 if stay.output else outputs,
        residual_bytes=residuals,
        dram_metadata_bytes=metadata,
        kept_output_bytes=outputs if stay.output else 0,
    )


def stored_bytes(
    matrix: Matrix, pattern: LayerSparsity, seen: Seen, target: Target, size: int, outer: OuterRun | None = None
) -> tuple[int, int, int]:
    """Bytes of (values, what says where they stand, block indices) of the weights in DRAM."""
    if not matrix.weighted:
        return 0, 0, 0
    if outer is not None:
        if not seen.stores_loose:
            return matrix.weights * size, 0, 0
        nonzeros = matrix.groups * matrix.M * outer.k * Fraction(repr(outer.weight_density))
        return ceil(nonzeros * size), ceil(outer.weight_mask_bits / 8), 0
    keeps_nm, keeps_blocks = seen.stores_nm, seen.stores_blocks
    if seen.unstructured != "none" and not (keeps_nm or keeps_blocks):
        support = target.descriptor.sparsity.unstructured
        codec = support.codec if support else "none"
        density = float(kept_share(pattern, matrix.K)) if seen.stores_loose else 1.0
        return unstructured_bytes(matrix.weights, density, codec, size), 0, 0
    own = LayerSparsity(
        nm_keep=(seen.runs_as.nm_keep or pattern.nm_keep) if keeps_nm else 0,
        nm_group=(seen.runs_as.nm_group or pattern.nm_group) if keeps_nm else 0,
        block_rows=pattern.block_rows if keeps_blocks else 0,
        block_cols=pattern.block_cols if keeps_blocks else 0,
        kept_blocks=pattern.kept_blocks if keeps_blocks else 0,
    )
    _, _, kept = spans(matrix.K, own, target.whole(target.descriptor.array.k_granule))
    values = matrix.groups * matrix.M * kept
    nm_bytes = ceil(values * register_bits(pattern, own, target) / 8)
    blocks = block_count(matrix.K, own.block_cols) if own.has_blocks else 1
    indices = matrix.groups * -(-matrix.M // own.block_rows) * own.kept_blocks if own.has_blocks else 0
    return values * size, nm_bytes, ceil(Fraction(indices * _index_bits(target, blocks), 8))


def _index_bits(target: Target, blocks: int) -> int:
    support = target.descriptor.sparsity.block
    if target.descriptor.sparsity.hybrid_operators_only:
        return BLOCK_INDEX_BITS
    if blocks == 1:
        return 0
    if support is not None and support.index_bits is not None:
        return target.whole(support.index_bits)
    return ceil(log2(blocks))


__all__ = ["NOWHERE", "ONCE", "MemoryTiling", "Operands", "Stay", "reuses", "stored", "stored_bytes", "tile_memory"]
