"""`LayerSparsity`: how the weights of one layer are sparse, and what of it a target skips, stores less, or ignores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, comb, floor, log2
from typing import Literal

from crisp_onnx.lowering.schema import NmSupport
from crisp_onnx.lowering.target import Target

Effect = Literal["skip", "gate", "store", "none"]


@dataclass(frozen=True)
class LayerSparsity:
    """Sparsity of a weight matrix (M, K).

    `nm_keep` of `nm_group` neighbours along K are kept (0, 0: no such rule). Blocks are `block_rows` x `block_cols`, of
    which every block row keeps `kept_blocks` (0 rows: no blocks). `density`: nonzeros without such structure.
    `hybrid`: stored in the hybrid format, so that a kernel of this package runs it.
    """

    nm_keep: int = 0
    nm_group: int = 0
    block_rows: int = 0
    block_cols: int = 0
    kept_blocks: int = 0
    vector_rows: int = 1
    density: float = 1.0
    hybrid: bool = False

    @property
    def has_nm(self) -> bool:
        return 0 < self.nm_keep < self.nm_group

    @property
    def has_blocks(self) -> bool:
        return self.block_rows > 0

    @property
    def name(self) -> str:
        """Words for tables: `2:4 in 5 blocks of 64x64`, `dense`."""
        nm = f"{self.nm_keep}:{self.nm_group}" if self.has_nm else ""
        blocks = f"{self.kept_blocks} blocks of {self.block_rows}x{self.block_cols} per row" if self.has_blocks else ""
        loose = f"unstructured {self.density:.1%}" if self.density < 1 and not nm and not blocks else ""
        return " in ".join(part for part in (nm, blocks, loose) if part) or "dense"


DENSE = LayerSparsity()


def block_count(k: int, block_cols: int) -> int:
    """Blocks in a block row of K values."""
    return -(-k // block_cols)


def blocks_kept(share: Fraction, blocks: int) -> int:
    """`share` of `blocks`, rounded half up, at least one."""
    return max(1, floor(share * blocks + Fraction(1, 2)))


def blocked(pattern: LayerSparsity, share: Fraction, k: int, block_rows: int, block_cols: int) -> LayerSparsity:
    """`pattern` with `share` of the blocks of each block row kept."""
    kept = blocks_kept(share, block_count(k, block_cols))
    return replace(pattern, block_rows=block_rows, block_cols=block_cols, kept_blocks=kept)


def nm_bits(pattern: LayerSparsity, support: NmSupport | None) -> Fraction:
    """Metadata bits per kept value: ceil(log2 m), or ceil(log2 C(m, n)) per group shared by its n values."""
    if not pattern.has_nm:
        return Fraction(0)
    n, m = pattern.nm_keep, pattern.nm_group
    if support is not None and support.meta_bits is not None and support.group == m:
        bits = Fraction(str(support.meta_bits.value))
    elif support is not None and support.meta_coding == "per_group":
        return Fraction(ceil(log2(comb(m, n))), n)
    else:
        bits = Fraction(ceil(log2(m)))
    if support is not None and support.align_pow2:
        bits = Fraction(aligned_bits(int(bits)))
    return bits


def aligned_bits(bits: int) -> int:
    """The next of 1, 2, 4, 8."""
    return next(width for width in (1, 2, 4, 8, 16) if width >= bits)


@dataclass(frozen=True)
class Seen:
    """What a target makes of a pattern: effect of its n:m part, of its blocks, of loose zeros, and why.

    `stores_nm`, `stores_blocks`, `stores_loose`: what of it makes the stored weights smaller.
    """

    nm: Effect = "none"
    block: Effect = "none"
    unstructured: Effect = "none"
    reason: str = ""
    runs_as: LayerSparsity = DENSE
    stores_nm: bool = False
    stores_blocks: bool = False
    stores_loose: bool = False


UNSEEN = Seen()


def see(pattern: LayerSparsity, target: Target, *, k: int, kernel_taps: int = 1) -> Seen:
    """`pattern` as `target` runs it. What cannot be skipped runs dense or only stores less; `reason` says so.

    `kernel_taps`: kh x kw; patterns stand along K with the input channel fastest, which matters where it is above 1.
    """
    pattern = trimmed(pattern, k)
    reasons: list[str] = []
    sparsity = target.descriptor.sparsity
    only_hybrid = sparsity.hybrid_operators_only and not pattern.hybrid
    order = target.descriptor.layout.k_order == "channel_last" or kernel_taps == 1
    if _by_own_kernels(pattern, target):
        return Seen(
            "skip" if pattern.has_nm else "none",
            "skip" if pattern.has_blocks else "none",
            "none",
            "",
            replace(pattern, density=1.0),
            pattern.has_nm,
            pattern.has_blocks,
        )
    nm, nm_pattern, stores_nm = _see_nm(pattern, target, order, only_hybrid, reasons)
    block, stores_blocks = _see_blocks(pattern, target, order, only_hybrid, reasons)
    loose: Effect = "none"
    support = sparsity.unstructured
    if support is not None and (kept_share(pattern, k) < 1 or support.codec == "entropy"):
        loose = support.compute if support.compute != "none" else ("store" if support.storage else "none")
        if loose == "skip":
            reasons.append("every zero is skipped, whatever the pattern")
        elif loose == "store":
            reasons.append("weights are compressed in memory, zeros are computed")
    elif pattern.density < 1 and not pattern.has_nm and not pattern.has_blocks:
        reasons.append(f"{target.name} cannot use zeros without a pattern")
    runs_as = LayerSparsity(
        nm_keep=nm_pattern[0] if nm == "skip" else 0,
        nm_group=nm_pattern[1] if nm == "skip" else 0,
        block_rows=pattern.block_rows if block == "skip" else 0,
        block_cols=pattern.block_cols if block == "skip" else 0,
        kept_blocks=pattern.kept_blocks if block == "skip" else 0,
        vector_rows=pattern.vector_rows,
        hybrid=pattern.hybrid,
    )
    stores_loose = support is not None and support.storage
    return Seen(nm, block, loose, "; ".join(reasons), runs_as, stores_nm, stores_blocks, stores_loose)


def trimmed(pattern: LayerSparsity, k: int) -> LayerSparsity:
    """`pattern` without blocks when all of them are kept, and without n:m when n equals m."""
    if pattern.has_blocks and pattern.kept_blocks >= block_count(k, pattern.block_cols):
        pattern = replace(pattern, block_rows=0, block_cols=0, kept_blocks=0)
    return pattern if pattern.has_nm else replace(pattern, nm_keep=0, nm_group=0)


def kept_share(pattern: LayerSparsity, k: int) -> Fraction:
    """Share of the weights that are kept: blocks x n:m x loose density."""
    share = Fraction(1)
    if pattern.has_blocks:
        share *= min(Fraction(1), Fraction(pattern.kept_blocks * pattern.block_cols, k))
    if pattern.has_nm:
        share *= Fraction(pattern.nm_keep, pattern.nm_group)
    return share * Fraction(repr(float(pattern.density)))


def _by_own_kernels(pattern: LayerSparsity, target: Target) -> bool:
    """Whether this package's kernels run it: they take every pattern and block of the format as it stands."""
    sparsity = target.descriptor.sparsity
    return sparsity.hybrid_operators_only and pattern.hybrid and any(nm.compute == "skip" for nm in sparsity.nm)


def _see_nm(
    pattern: LayerSparsity, target: Target, order: bool, only_hybrid: bool, reasons: list[str]
) -> tuple[Effect, tuple[int, int], bool]:
    """(effect, pattern that it runs as, whether it is stored smaller)."""
    if not pattern.has_nm:
        return "none", (0, 0), False
    name = f"{pattern.nm_keep}:{pattern.nm_group}"
    support = target.nm(pattern.nm_keep, pattern.nm_group)
    if support is None:
        reasons.append(f"{target.name} has no {name}")
        return "none", (0, 0), False
    if only_hybrid:
        reasons.append(f"{name} counts only in hybrid operators; this one is a plain node")
        return "none", (0, 0), False
    compute = support.compute
    if compute == "skip" and not order:
        reasons.append(f"{name} stands along the input channels, {target.name} reads kernel taps first")
        compute = "none"
    if compute == "none":
        if support.storage:
            reasons.append(f"{name} is computed dense and only stored smaller")
            return "store", (0, 0), True
        reasons.append(f"{name} is computed and stored dense")
        return "none", (0, 0), False
    if (support.keep * pattern.nm_group, support.group) != (pattern.nm_keep * support.group, pattern.nm_group):
        reasons.append(f"{name} runs at the speed of {support.pattern}")
    if not support.storage:
        reasons.append(f"{name} is stored in full")
    return compute, (support.keep, support.group), support.storage


def _see_blocks(
    pattern: LayerSparsity, target: Target, order: bool, only_hybrid: bool, reasons: list[str]
) -> tuple[Effect, bool]:
    """(effect, whether dropped blocks are left out of the stored weights)."""
    if not pattern.has_blocks:
        return "none", False
    support = target.descriptor.sparsity.block
    if support is None:
        reasons.append(f"{target.name} has no block skipping")
        return "none", False
    if only_hybrid:
        reasons.append("blocks count only in hybrid operators; this one is a plain node")
        return "none", False
    compute = support.compute
    least = (target.whole(support.min_bh), target.whole(support.min_bw))
    if compute == "skip" and (pattern.block_rows < least[0] or pattern.block_cols < least[1]):
        reasons.append(
            f"blocks of {pattern.block_rows}x{pattern.block_cols} are below the least of {least[0]}x{least[1]}"
        )
        compute = "none"
    elif compute == "skip" and not order:
        reasons.append(f"blocks stand along the input channels, {target.name} reads kernel taps first")
        compute = "none"
    if compute == "none":
        reasons.append("dropped blocks are only stored smaller" if support.storage else "dropped blocks gain nothing")
        return ("store" if support.storage else "none"), support.storage
    if not support.storage:
        reasons.append("dropped blocks are stored in full")
    return compute, support.storage
