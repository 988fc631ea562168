"""Which assumed and fitted numbers of a target an estimate leaned on."""

from __future__ import annotations

from crisp_onnx.lowering.lowered import Lowered
from crisp_onnx.lowering.target import Leaf, Target


def leaned_on(lowered: Lowered, target: Target) -> tuple[Leaf, ...]:
    """The assumed and fitted numbers that this estimate used, in the order of the descriptor."""
    return tuple(
        leaf
        for leaf in target.leaves()
        if leaf.quantity.prov in ("assumed", "fitted") and _used(leaf.key.split("."), lowered, target)
    )


def _used(key: list[str], lowered: Lowered, target: Target) -> bool:
    kinds = {op.kind for op in lowered.operators}
    section, entry = key[0], key[1]
    if section == "array" and entry == "peak_dense_mac_per_cycle":
        return key[2] == lowered.dtype
    if (section, entry) in (("array", "efficiency"), ("overhead", "by_kind")):
        return key[2] in kinds
    if section == "sparsity":
        return _pattern_used(key, lowered, target)
    return not entry.startswith("advertised")


def _pattern_used(key: list[str], lowered: Lowered, target: Target) -> bool:
    patterns = [op.pattern for op in lowered.operators if op.matrix is not None]
    if key[1] == "nm":
        support = target.descriptor.sparsity.nm[int(key[2])]
        return any(p.has_nm and target.nm(p.nm_keep, p.nm_group) == support for p in patterns)
    return key[1] != "block" or any(p.has_blocks for p in patterns)
