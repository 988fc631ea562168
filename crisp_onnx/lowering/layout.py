"""The layout changes of a runtime that keeps the channels of convolutions in another order than other operators do.

ONNX Runtime does so on CPUs: ordinary convolutions of floats take channels in groups (its NCHWc transformer), those of
bytes take them last (its NHWC transformer); the hybrid operators, matrix products and most other operators take and
give plain tensors. A tensor that operators of both sides use is converted once, and so is one that some take as bytes
and others as floats.
"""

from __future__ import annotations

from collections.abc import Sequence

from crisp_onnx.format.operators import BYTE_OPERATORS
from crisp_onnx.lowering.lowered import LoweredOp, Order
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.quantised import plain_name
from crisp_onnx.lowering.schema import Dtype
from crisp_onnx.runtime.seams import KEEPS_LAYOUT

LAYOUT, CONVERSION = "Layout", "Conversion"
POOLS = frozenset({"MaxPool", "AveragePool"})  # in groups even where their input is plain
GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
FOLLOWS = (KEEPS_LAYOUT | GLOBAL_POOLS) - POOLS
MOST_AXES = 4
"""Of a transpose that moves whole rows; of more, channels change places among themselves."""
CHANNEL_ALIGNMENT = 4  # of input channels; others are convolved in the plain layout


def with_layout_changes(operators: Sequence[LoweredOp], granule: int) -> tuple[LoweredOp, ...]:
    """The operators in their orders, with a `Layout` or `Conversion` behind each whose output must be converted.

    `granule`: channels of a group. Operators that already have such changes among them are returned as they are.
    """
    if any(op.op in (LAYOUT, CONVERSION) for op in operators):
        return tuple(operators)
    orders: dict[str, Order] = {}
    channels: dict[str, int] = {}
    types = {op.name: op.dtype for op in operators}
    reordered: set[str] = set()
    shuffled: set[str] = set()
    retyped: dict[str, Dtype | None] = {}
    for op in operators:
        known = [name for name in op.reads if name in orders]
        channels[op.name] = _channels(op, [channels[name] for name in known])
        inputs = [orders[name] for name in known]
        wanted = _wanted(op, granule, inputs, channels[op.name])
        if _shuffles_last(op, inputs):
            shuffled.add(op.name)
        orders[op.name] = "groups" if _reads_plain_image(op, granule) else wanted
        if not _reads_plain_image(op, granule):
            reordered.update(name for name in known if orders[name] != wanted)
        retyped.update((name, op.dtype) for name in known if types[name] != op.dtype)
    found: list[LoweredOp] = []
    for op in operators:
        found.append(op.model_copy(update={"order": "last" if op.name in shuffled else orders[op.name]}))
        if op.name in retyped and op.kind not in ("gemm", "gemv"):  # those give answers in floats as they are
            found.append(_conversion(op, retyped[op.name]))
        if op.name in reordered:
            found.append(_change(op))
    return tuple(found)


def _channels(op: LoweredOp, inputs: list[int]) -> int:
    """Of the output; 0 where they are not known."""
    if op.matrix is not None:
        return op.matrix.M * op.matrix.groups
    return sum(inputs) if op.op == "Concat" else max(inputs, default=0)


def runs_hybrid(op: LoweredOp) -> bool:
    """Whether the target skips zeros of this operator, which on a CPU the hybrid kernels do."""
    return op.matrix is not None and (op.seen.nm == "skip" or op.seen.block == "skip")


def _wanted(op: LoweredOp, granule: int, inputs: list[Order], channels: int) -> Order:
    """The order in which `op` takes and gives channels, `inputs` being those of what it reads."""
    if op.dtype == "int8":
        return "last" if _takes_last(op, inputs) else "plain"
    return "groups" if _wants_groups(op, granule, [order == "groups" for order in inputs], channels) else "plain"


def _takes_last(op: LoweredOp, inputs: list[Order]) -> bool:
    if op.matrix is not None:
        return "Conv" in op.op and op.op not in BYTE_OPERATORS and not runs_hybrid(op)
    return plain_name(op.op) in FOLLOWS | POOLS and bool(inputs) and all(order == "last" for order in inputs)


def _shuffles_last(op: LoweredOp, inputs: list[Order]) -> bool:
    """Channels of bytes that lie last change places one by one; elsewhere whole planes or rows do."""
    is_shuffle = plain_name(op.op) == "Transpose" and op.axes > MOST_AXES
    return is_shuffle and op.dtype == "int8" and bool(inputs) and all(order == "last" for order in inputs)


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
        dtype=op.dtype,
    )


def _conversion(op: LoweredOp, dtype: Dtype | None) -> LoweredOp:
    values = op.output_bytes // BYTES[op.dtype or "fp32"]
    return LoweredOp(
        name=f"{op.name}, {CONVERSION.lower()}",
        op=CONVERSION,
        kind="elementwise",
        input_bytes=op.output_bytes,
        output_bytes=values * BYTES[dtype or "fp32"],
        reads=(op.name,),
        dtype=dtype,
    )
