"""Tile a matrix product onto a target: array passes, bytes between buffer and array, bytes of DRAM."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction

from crisp_onnx.lowering.array import ArrayTiling, tile_array
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, Seen, block_count
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.memory import tile_memory
from crisp_onnx.lowering.target import Target


@dataclass(frozen=True)
class Tiling:
    """Counts of one layer on one target.

    `k_span`: values of K inside kept blocks; `k_kept`: of these, kept slots of n:m groups. `array_cycles`: time of the
    array at its peak rate. `computed_macs` takes in zeros that are not skipped; `gated_macs` of them cost a cycle but
    little energy. `register_accesses`: values through the local registers, each with `metadata_bits_per_value`.
    On-chip bytes pass from buffer to array; reads and writes are those of DRAM. `expanded`: the groups run as one
    block-diagonal matrix because that takes fewer cycles.
    """

    blocks: int
    kept_blocks: int
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
        return self.onchip_activation_bytes + self.onchip_weight_bytes + Fraction(self.onchip_metadata_bits, 8)


def tile(
    matrix: Matrix, pattern: LayerSparsity, seen: Seen, target: Target, dtype: str, *, activation_density: float = 1.0
) -> Tiling:
    """Tile a layer; grouped layers run group by group or as one block-diagonal matrix, whichever takes fewer cycles.

    `activation_density` matters only to targets that skip zeros of activations.
    """
    array = tile_array(matrix, pattern, seen, target, dtype=dtype, activation_density=activation_density)
    expanded = False
    if matrix.groups > 1 and matrix.weighted:
        whole = replace(matrix, M=matrix.M * matrix.groups, K=matrix.K * matrix.groups, groups=1)
        diagonal = LayerSparsity(density=1 / matrix.groups)
        joined = tile_array(whole, diagonal, Seen(), target, dtype=dtype, activation_density=activation_density)
        if _busy(joined, target) < _busy(array, target):
            array, expanded = replace(joined, computed_macs=array.computed_macs), True
    memory = tile_memory(matrix, pattern, seen, target, dtype)
    return Tiling(
        blocks=block_count(matrix.K, pattern.block_cols) if pattern.has_blocks else 1,
        kept_blocks=seen.runs_as.kept_blocks,
        **{field.name: getattr(array, field.name) for field in fields(array)},
        **{field.name: getattr(memory, field.name) for field in fields(memory)},
        expanded=expanded,
    )


def _busy(array: ArrayTiling, target: Target) -> Fraction:
    """Cycles of array or buffer, whichever takes longer."""
    bandwidth = target.number(target.buffer.read_bw) if target.buffer else None
    moved = array.onchip_activation_bytes + array.onchip_weight_bytes + Fraction(array.onchip_metadata_bits, 8)
    return max(Fraction(array.array_cycles), moved / bandwidth if bandwidth else Fraction(0))
