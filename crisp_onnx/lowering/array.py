"""The compute array's side of a tiling: passes, cycles at peak, and what moves between buffer and array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, log2

from crisp_onnx.errors import Defect
from crisp_onnx.lowering.ethos_u import EthosRun
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, Seen, aligned_bits, kept_share, nm_bits
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.outer_product import OuterRun
from crisp_onnx.lowering.schema import Design
from crisp_onnx.lowering.systolic import systolic
from crisp_onnx.lowering.target import Target

ROUNDING = 1e-9  # probabilities that add up to a hair over 1 must not cost a cycle


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
    onchip_sum_bytes: int = 0


@dataclass(frozen=True)
class Work:
    """A layer on its way through an array.

    `register_columns`: output columns that one load of the registers serves, `None` for all. `activation_density`:
    nonzeros among the inputs. `outer`: the run of an array of outer products; `ethos`: of an Ethos-U, with the inputs
    and outputs that lie on the chip.
    """

    matrix: Matrix
    pattern: LayerSparsity
    seen: Seen
    target: Target
    dtype: str
    register_columns: int | None = None
    activation_density: float = 1.0
    outer: OuterRun | None = None
    ethos: EthosRun | None = None


def tile_array(work: Work) -> ArrayTiling:
    """Passes of the array over a layer, by the design of the target."""
    return _DESIGNS[work.target.descriptor.array.design](work)


def _lanes(work: Work) -> ArrayTiling:
    matrix, runs, target = work.matrix, work.seen.runs_as, work.target
    array = target.descriptor.array
    size = BYTES[work.dtype]
    k_span, k_padded, k_kept = spans(matrix.K, runs, target.whole(array.k_granule))
    granule = target.whole(array.n_granule)
    rows, streams = row_passes(matrix, runs, target)
    passes = rows * -(-matrix.N // granule)
    lanes = lanes_at(target, work.dtype)
    k_steps = ceil(k_kept / lanes)
    bits = register_bits(work.pattern, runs, target)
    loads = matrix.groups * matrix.M * k_kept
    loads *= -(-matrix.N // work.register_columns) if work.register_columns else 1
    computed = matrix.groups * matrix.M * k_kept * matrix.N
    cycles = -(-passes // target.whole(array.units)) * k_steps * granule
    stored, mask = activation_storage(work)
    activations = rows * k_padded * matrix.N * streams
    return ArrayTiling(
        k_span=k_span,
        k_kept=k_kept,
        passes=passes,
        k_steps=k_steps,
        column_steps=granule,
        streams=streams,
        array_cycles=max(cycles, _slowest_gain(work)),
        computed_macs=computed,
        gated_macs=_gated(work, computed),
        register_accesses=computed + loads,
        accumulator_updates=matrix.groups * matrix.M * matrix.N * k_steps,
        metadata_bits_per_value=float(bits),
        onchip_activation_bytes=ceil(activations * size * stored),
        onchip_weight_bytes=loads * size,
        onchip_metadata_bits=ceil(loads * bits) + activations * mask,
        onchip_sum_bytes=_partial_sums(matrix, k_kept, target) * size,
    )


def _ethos_u(work: Work) -> ArrayTiling:
    """What lies in the buffer beside the cores passes from it and to it; the rest comes from DRAM and goes there."""
    run = work.ethos
    if run is None:
        raise Defect("An Ethos-U needs its run.")
    return replace(
        _lanes(work),
        array_cycles=run.cycles,
        onchip_activation_bytes=run.onchip_bytes,
        onchip_weight_bytes=0,
        onchip_metadata_bits=0,
    )


def _systolic(work: Work) -> ArrayTiling:
    array, size = work.target.descriptor.array, BYTES[work.dtype]
    lanes = _lanes(work)
    rows, columns = work.target.whole(array.rows), work.target.whole(array.lanes)
    run = systolic(work.matrix, lanes.k_kept, rows, columns, array.dataflow)
    return replace(
        lanes,
        passes=run.folds,
        array_cycles=run.cycles,
        onchip_activation_bytes=run.activation_values * size,
        onchip_weight_bytes=run.weight_values * size,
    )


def _outer(work: Work) -> ArrayTiling:
    run, matrix, size = work.outer, work.matrix, BYTES[work.dtype]
    if run is None:
        raise Defect("An array of outer products needs its run.")
    _, k, _ = outer_spans(matrix.K, work.pattern, work.target)
    return ArrayTiling(
        k_span=k,
        k_kept=k,
        passes=run.passes,
        k_steps=k,
        column_steps=1,
        streams=1,
        array_cycles=ceil(run.cycles * (1 - ROUNDING)),
        computed_macs=ceil(run.macs * (1 - ROUNDING)),
        gated_macs=0,
        register_accesses=ceil(run.register_accesses * (1 - ROUNDING)),
        accumulator_updates=ceil(run.macs * (1 - ROUNDING)),
        metadata_bits_per_value=0.0,
        onchip_activation_bytes=ceil(run.activation_values * size),
        onchip_weight_bytes=ceil(run.weight_values * size),
        onchip_metadata_bits=ceil(run.moved_mask_bits),
        onchip_sum_bytes=run.partial_sums * size,
    )


_DESIGNS: dict[Design, Callable[[Work], ArrayTiling]] = {
    "lanes": _lanes,
    "host_link": _lanes,
    "ethos_u": _ethos_u,
    "systolic": _systolic,
    "outer_product": _outer,
}


def activation_storage(work: Work) -> tuple[float, int]:
    """(share of the inputs that is stored and moved, mask bits a position)."""
    support = work.target.descriptor.sparsity.activation
    return (work.activation_density, 1) if support is not None and support.storage else (1.0, 0)


def _gated(work: Work, computed: int) -> int:
    """MACs that cost their cycle but little energy: kept slots that hold a zero, and zeros of activations."""
    seen, support = work.seen, work.target.descriptor.sparsity.activation
    useful = Fraction(computed)
    if "gate" in (seen.nm, seen.block, seen.unstructured):
        useful = min(useful, kept_share(work.pattern, work.matrix.K) * work.matrix.macs)
    if support is not None and support.compute == "gate":
        useful *= Fraction(repr(work.activation_density))
    return computed - ceil(useful)


def _partial_sums(matrix: Matrix, k_kept: int, target: Target) -> int:
    """Sums that go to the buffer and come back because the accumulators hold only so many values of K."""
    kept = target.number(target.descriptor.onchip.accumulate_k)
    return 0 if kept is None else matrix.groups * matrix.M * matrix.N * (-(-k_kept // int(kept)) - 1)


def _slowest_gain(work: Work) -> int:
    """Least cycles of an n:m layer where the target states that skipping gains at most `max_speedup`."""
    matrix, runs, target = work.matrix, work.seen.runs_as, work.target
    support = target.nm(runs.nm_keep, runs.nm_group) if runs.has_nm else None
    limit = target.number(support.max_speedup) if support else None
    if not limit:
        return 0
    array = target.descriptor.array
    granule = target.whole(array.n_granule)
    k_span, _, _ = spans(matrix.K, runs, target.whole(array.k_granule))
    passes = row_passes(matrix, runs, target)[0] * -(-matrix.N // granule)
    steps = ceil(k_span / lanes_at(target, work.dtype))
    return ceil(-(-passes // target.whole(array.units)) * steps * granule / limit)


def spans(k: int, runs: LayerSparsity, granule: int = 1) -> tuple[int, int, int]:
    """(values of K in kept blocks, the same padded to whole groups and granules, kept slots) in every output row."""
    k_span = min(k, runs.kept_blocks * runs.block_cols) if runs.has_blocks else k
    if not runs.has_nm:
        kept = granular(k_span, granule)
        return k_span, kept, kept
    kept = granular(-(-k_span // runs.nm_group) * runs.nm_keep, granule)
    return k_span, -(-kept // runs.nm_keep) * runs.nm_group, kept


def outer_spans(k: int, pattern: LayerSparsity, target: Target) -> tuple[int, int, int]:
    """`spans` on an array of outer products: n:m weights are padded as on others, everything else keeps its place."""
    if not pattern.has_nm:
        return k, k, k
    nm = LayerSparsity(pattern.nm_keep, pattern.nm_group)
    return spans(k, nm, target.whole(target.descriptor.array.k_granule))


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


def lanes_at(target: Target, dtype: str) -> Fraction:
    """K values a row takes in a cycle at `dtype`; the descriptor's rows x lanes hold for `array.bits`."""
    array = target.descriptor.array
    return target.peak_macs(dtype) / (target.whole(array.rows) * target.whole(array.units))


def register_bits(pattern: LayerSparsity, stored: LayerSparsity, target: Target) -> Fraction:
    """Metadata bits per kept value; the hybrid format shares them among its vector rows."""
    if not stored.has_nm:
        return Fraction(0)
    if target.descriptor.sparsity.hybrid_operators_only:
        return Fraction(aligned_bits(ceil(log2(stored.nm_group))), pattern.vector_rows)
    return nm_bits(stored, target.nm(stored.nm_keep, stored.nm_group))
