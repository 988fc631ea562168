"""The layout changes of a runtime that keeps the channels of ordinary convolutions in groups, and others' plain.

ONNX Runtime does so on CPUs (its NCHWc transformer); the hybrid operators, matrix products and most other operators
take and give plain tensors. A tensor that operators of both sides use is converted once.
"""

from __future__ import annotations

from collections.abc import Sequence

from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.runtime.seams import KEEPS_LAYOUT

LAYOUT = "Layout"
POOLS = frozenset({"MaxPool", "AveragePool"})  # in groups even where their input is plain
GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
FOLLOWS = (KEEPS_LAYOUT | GLOBAL_POOLS) - POOLS
CHANNEL_ALIGNMENT = 4  # of input channels; others are convolved in the plain layout


def with_layout_changes(operators: Sequence[LoweredOp], granule: int) -> tuple[LoweredOp, ...]:
    """The operators with one of type `Layout` behind each whose output must be converted.

    `granule`: channels of a group. Operators that already have layout changes among them are returned as they are.
    """
    if any(op.op == LAYOUT for op in operators):
        return tuple(operators)
    grouped: dict[str, bool] = {}
    channels: dict[str, int] = {}
    converted: set[str] = set()
    for op in operators:
        known = [name for name in op.reads if name in grouped]
        channels[op.name] = _channels(op, [channels[name] for name in known])
        wanted = _wants_groups(op, granule, [grouped[name] for name in known], channels[op.name])
        grouped[op.name] = wanted or _reads_plain_image(op, granule)
        if not _reads_plain_image(op, granule):
            converted.update(name for name in known if grouped[name] != wanted)
    return tuple(found for op in operators for found in (op, *([_change(op)] if op.name in converted else [])))


def _channels(op: LoweredOp, inputs: list[int]) -> int:
    """Of the output; 0 where they are not known."""
    if op.matrix is not None:
        return op.matrix.M * op.matrix.groups
    return sum(inputs) if op.op == "Concat" else max(inputs, default=0)


def runs_hybrid(op: LoweredOp) -> bool:
    """Whether the target skips zeros of this operator, which on a CPU the hybrid kernels do."""
    return op.matrix is not None and (op.seen.nm == "skip" or op.seen.block == "skip")


def _wants_groups(op: LoweredOp, granule: int, inputs: list[bool], channels: int) -> bool:
    if op.matrix is not None:
        return "Conv" in op.op and not runs_hybrid(op) and _convolves_groups(op.matrix, granule)
    if op.op in POOLS | GLOBAL_POOLS and (channels == 0 or channels % granule):
        return False
    return op.op in POOLS or (op.op in FOLLOWS and bool(inputs) and all(inputs))


def _convolves_groups(matrix: Matrix, granule: int) -> bool:
    taken = matrix.K // (matrix.window[0] * matrix.window[1])
    if matrix.groups == 1:
        return taken >= granule and taken % CHANNEL_ALIGNMENT == 0
    if taken == 1:
        return matrix.groups % granule == 0
    return taken % granule == 0 and matrix.M % granule == 0


def _reads_plain_image(op: LoweredOp, granule: int) -> bool:
    """A convolution of a few channels takes them as they are and gives groups."""
    matrix = op.matrix
    if matrix is None or runs_hybrid(op) or "Conv" not in op.op or matrix.groups > 1:
        return False
    return matrix.K // (matrix.window[0] * matrix.window[1]) < granule


def _change(op: LoweredOp) -> LoweredOp:
    return LoweredOp(
        name=f"{op.name}, {LAYOUT.lower()}",
        op=LAYOUT,
        kind="elementwise",
        input_bytes=op.output_bytes,
        output_bytes=op.output_bytes,
        reads=(op.name,),
    )
