"""The pattern that a hardware target gains most from."""

from __future__ import annotations

from crisp_onnx.errors import CrispError
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.lowering.target import Target

BLOCK_SIDE = 16
KERNEL_VECTOR_ROWS = 8


def rewarded_pattern(target: Target) -> tuple[Pattern, str]:
    """(the pattern that `target` gains most from, why, in a sentence).

    Raises:
        CrispError: the target neither skips zeros that hybrid sparsity can give nor stores weights smaller for them.
    """
    sparsity = target.descriptor.sparsity
    skipped = [support for support in sparsity.nm if support.compute == "skip"]
    blocks = sparsity.block is not None and sparsity.block.compute == "skip"
    loose = sparsity.unstructured is not None and sparsity.unstructured.compute == "skip"
    stored = target.stores_smaller
    if not skipped and not blocks and not loose and not stored:
        raise CrispError(
            f"Target {target.name} skips no zeros and stores no weights smaller, so sparsity would not make the model "
            "faster there. Remove channels instead, or choose another target (`crisp-onnx targets`)."
        )
    keep, group = 2, 4
    if skipped and not any(support.pattern == "2:4" for support in skipped):
        densest = max(skipped, key=lambda support: support.keep / support.group)
        keep, group = densest.keep, densest.group
    elif not skipped and not loose and not stored:
        keep = group = 4
    side = BLOCK_SIDE
    if sparsity.block is not None:
        side = max(side, target.whole(sparsity.block.full_rate_bh), target.whole(sparsity.block.min_bh))
    side = -(-side // group) * group
    vector = KERNEL_VECTOR_ROWS if sparsity.hybrid_operators_only and side % KERNEL_VECTOR_ROWS == 0 else 1
    nm = f"{keep}:{group}" if keep < group else "blocks alone"
    if stored and not skipped and not blocks and not loose:
        return Pattern(keep, group, side, vector), (
            f"{target.name} computes zeros like any other value but stores {nm} in blocks of {side} smaller, so layers "
            "that wait for their weights gain"
        )
    why = f"{target.name} takes {nm} in blocks of {side}" + ("" if blocks else "; it gains nothing from dropped blocks")
    return Pattern(keep, group, side, vector), why
