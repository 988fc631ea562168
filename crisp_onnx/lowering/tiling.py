"""Tile a matrix product onto a target: array passes, bytes between buffer and array, bytes of DRAM."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction

from crisp_onnx.lowering.array import ArrayTiling, Work, outer_spans, tile_array
from crisp_onnx.lowering.ethos_u import ethos_u
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, Seen, block_count, kept_share
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.memory import NOWHERE, Stay, reuses, stored, tile_memory
from crisp_onnx.lowering.outer_product import outer_product
from crisp_onnx.lowering.target import Target


@dataclass(frozen=True)
class Tiling:
    """Counts of one layer on one target.

    `k_span`: values of K inside kept blocks; `k_kept`: of these, kept slots of n:m groups. `array_cycles`: time of the
    array at its peak rate. `computed_macs` takes in zeros that are not skipped; `gated_macs` of them cost a cycle but
    little energy. `register_accesses`: values through the local registers, each with `metadata_bits_per_value`.
    On-chip bytes pass from buffer to array, `onchip_sum_bytes` of partial sums among them; reads and writes are those
    of DRAM, `dram_metadata_bytes` of the reads say where values stand. `kept_output_bytes`: outputs that stay on the
    chip. `expanded`: the groups run as one block-diagonal matrix because that takes fewer cycles; `whole_cycles`: of
    the array in that form, 0 without groups.
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
    onchip_sum_bytes: int = 0
    dram_metadata_bytes: int = 0
    kept_output_bytes: int = 0
    expanded: bool = False
    whole_cycles: int = 0

    @property
    def stored_weight_bytes(self) -> int:
        return self.weight_bytes + self.nm_metadata_bytes + self.block_metadata_bytes

    @property
    def onchip_bytes(self) -> Fraction:
        moved = self.onchip_activation_bytes + self.onchip_weight_bytes + self.onchip_sum_bytes
        return moved + Fraction(self.onchip_metadata_bits, 8)


def tile(
    matrix: Matrix,
    pattern: LayerSparsity,
    seen: Seen,
    target: Target,
    dtype: str,
    *,
    activation_density: float = 1.0,
    stay: Stay = NOWHERE,
    least_reads: bool = False,
) -> Tiling:
    """Tile a layer; grouped layers run group by group or as one block-diagonal matrix, whichever takes fewer cycles.

    `activation_density` matters only to targets that make use of zeros of activations. `stay`: see `memory.Stay`.
    `least_reads`: of the ways to share the buffer that which reads least, rather than the fastest.
    """
    work = _work(matrix, pattern, seen, target, dtype, activation_density, stay)
    operands = stored(work)
    tried = [
        (way, tile_array(replace(work, register_columns=way.columns or None)), tile_memory(work, operands, way, stay))
        for way in reuses(work, operands, stay)
    ]
    order = slice(None, None, -1 if least_reads else 1)
    reuse, array, memory = min(tried, key=lambda t: (_busy(t[1], target), t[2].dram_read_bytes)[order])
    expanded, whole_cycles = False, 0
    if matrix.groups > 1 and matrix.weighted:
        joined = _block_diagonal(matrix, target, dtype, activation_density, stay)
        other = tile_array(replace(joined, register_columns=reuse.columns or None))
        whole_cycles, expanded = other.array_cycles, _busy(other, target) < _busy(array, target)
        array = _timed_as(array, other) if expanded else array
    return Tiling(
        blocks=block_count(matrix.K, pattern.block_cols) if pattern.has_blocks else 1,
        kept_blocks=seen.runs_as.kept_blocks,
        **{field.name: getattr(array, field.name) for field in fields(array)},
        **{field.name: getattr(memory, field.name) for field in fields(memory)},
        expanded=expanded,
        whole_cycles=whole_cycles,
    )


def _block_diagonal(matrix: Matrix, target: Target, dtype: str, activation_density: float, stay: Stay) -> Work:
    """All groups of a layer as one matrix that is zero off its diagonal of blocks."""
    whole = replace(matrix, M=matrix.M * matrix.groups, K=matrix.K * matrix.groups, groups=1)
    loose = target.descriptor.sparsity.unstructured
    skips = Seen(unstructured="skip" if loose is not None and loose.compute == "skip" else "none")
    return _work(whole, LayerSparsity(density=1 / matrix.groups), skips, target, dtype, activation_density, stay)


def _timed_as(groups: ArrayTiling, whole: ArrayTiling) -> ArrayTiling:
    """The time of the whole matrix with the work of its groups: zeros between them are no work of the layer."""
    return replace(
        whole,
        computed_macs=groups.computed_macs,
        gated_macs=groups.gated_macs,
        register_accesses=groups.register_accesses,
        accumulator_updates=groups.accumulator_updates,
        onchip_weight_bytes=groups.onchip_weight_bytes,
        onchip_metadata_bits=groups.onchip_metadata_bits,
    )


def _work(
    matrix: Matrix,
    pattern: LayerSparsity,
    seen: Seen,
    target: Target,
    dtype: str,
    activation_density: float,
    stay: Stay,
) -> Work:
    """The layer with its run on an array of outer products or an Ethos-U, where the target is one."""
    work = Work(matrix, pattern, seen, target, dtype, activation_density=activation_density)
    if target.descriptor.array.design == "ethos_u":
        held = stay.read_bytes >= matrix.inputs * BYTES[dtype] > 0
        inner = stay.inner_input, stay.inner_output
        return replace(work, ethos=ethos_u(matrix, target, input_on_chip=held, output_on_chip=stay.output, inner=inner))
    if target.descriptor.array.design != "outer_product":
        return work
    support = target.descriptor.sparsity.activation
    skips = support is not None and support.compute == "skip"
    density = float(kept_share(pattern, matrix.K)) if seen.unstructured == "skip" else 1.0
    _, k, _ = outer_spans(matrix.K, pattern, target)
    run = outer_product(matrix, k, density, activation_density if skips else 1.0, target)
    return replace(work, outer=run)


def _busy(array: ArrayTiling, target: Target) -> Fraction:
    """Cycles of array or buffer, whichever takes longer."""
    bandwidth = target.number(target.buffer.read_bw) if target.buffer else None
    moved = array.onchip_activation_bytes + array.onchip_weight_bytes + Fraction(array.onchip_metadata_bits, 8)
    return max(Fraction(array.array_cycles), moved / bandwidth if bandwidth else Fraction(0))
