"""Which assumed and fitted numbers of a target an estimate leaned on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from crisp_onnx.lowering.cycles import FALLBACK, WHOLE_KINDS
from crisp_onnx.lowering.layers import lower_elsewhere
from crisp_onnx.lowering.layout import with_layout_changes
from crisp_onnx.lowering.lowered import Lowered, LoweredOp
from crisp_onnx.lowering.quantised import plain_name
from crisp_onnx.lowering.schema import OpKind, TimingKind
from crisp_onnx.lowering.target import Leaf, Target
from crisp_onnx.lowering.timing import stand_ins, timing_kind

ONCE = "per_inference"


def leaned_on(lowered: Lowered, target: Target) -> tuple[Leaf, ...]:
    """The assumed and fitted numbers that this estimate used, in the order of the descriptor.

    Behind them those of the target that runs what this one does not have, `name: key`.
    """
    here = [op for op in lowered.operators if target.runs(plain_name(op.op))]
    elsewhere = [op for op in lowered.operators if not target.runs(plain_name(op.op))]
    found = _leaned(here, target)
    if elsewhere:
        other = target.fallback
        theirs = _leaned([lower_elsewhere(op, other) for op in elsewhere], other)
        found += [replace(leaf, key=f"{other.name}: {leaf.key}") for leaf in theirs if f".{ONCE}" not in leaf.key]
    return tuple(found)


def _leaned(operators: Sequence[LoweredOp], target: Target) -> list[Leaf]:
    used = _measured_keys(operators, target) if target.descriptor.timing else _modelled_keys(operators, target)
    return [
        leaf
        for leaf in target.leaves()
        if leaf.quantity.prov in ("assumed", "fitted") and leaf.key.startswith(used) and not _idle(leaf.key, target)
    ]


def _measured_keys(operators: Sequence[LoweredOp], target: Target) -> tuple[str, ...]:
    """Times by kind, and what decides whether weights and activations are far away; the array's model has no part."""
    timing = target.descriptor.timing
    kinds: set[TimingKind] = set()
    if timing is not None:
        granule = target.whole(timing.granule)
        named = (timing_kind(op, granule) for op in with_layout_changes(operators, granule))
        kinds = {next((kind for kind in stand_ins(name) if kind in timing.kinds), name) for name in named}
    kept = tuple(f"timing.kinds.{kind}." for kind in kinds)
    return (*kept, "timing.granule", "timing.near", "memory.", "energy.", f"overhead.{ONCE}")


def _modelled_keys(operators: Sequence[LoweredOp], target: Target) -> tuple[str, ...]:
    array, overhead = target.descriptor.array, target.descriptor.overhead
    kinds = {op.kind for op in operators}
    products = {op.kind for op in operators if op.matrix is not None}
    if any(op.tiling is not None and op.tiling.whole_cycles for op in operators):
        products.update(WHOLE_KINDS)  # groups may run as one whole matrix
    by_kind = overhead.by_kind or {}
    shares = _entries(products, array.efficiency or {})
    own = _entries(kinds, by_kind)
    general = () if kinds and all(_entries({kind}, by_kind) for kind in kinds) else ("overhead.per_layer",)
    types = {op.dtype for op in operators if op.matrix is not None}
    return (
        "clock.", "memory.", "onchip.", "energy.", f"overhead.{ONCE}", *general,
        *(f"array.{key}" for key in ("rows", "lanes", "units", "subpartitions", "tile_", "m_gran", "k_gran", "n_gran")),
        *(f"array.peak_dense_mac_per_cycle.{dtype}" for dtype in types),
        *(f"array.efficiency.{kind}" for kind in shares),
        *(f"overhead.by_kind.{kind}" for kind in own),
        *_pattern_keys(operators, target),
    )  # fmt: skip


def _entries(kinds: Collection[OpKind], table: Mapping[OpKind, object]) -> set[str]:
    """The entries of `table` that `kinds` take, those that share the figure of another among them."""
    return {entry for kind in kinds if (entry := kind if kind in table else FALLBACK.get(kind, kind)) in table}


def _pattern_keys(operators: Sequence[LoweredOp], target: Target) -> tuple[str, ...]:
    patterns = [op.pattern for op in operators if op.matrix is not None]
    supports = [target.nm(p.nm_keep, p.nm_group) for p in patterns if p.has_nm]
    listed = enumerate(target.descriptor.sparsity.nm)
    nm = [f"sparsity.nm.{number}." for number, support in listed if any(support is found for found in supports)]
    blocks = ["sparsity.block."] if any(p.has_blocks for p in patterns) else []
    return (*nm, *blocks, "sparsity.unstructured.", "sparsity.activation.")


def _idle(key: str, target: Target) -> bool:
    """Whether the number stands in the descriptor but no estimate asks for it."""
    return key == "memory.0.write_bw" and target.dram.mode == "shared"
