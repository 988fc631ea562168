"""The time of a layer on a measured processor: which kind it is there, and the amounts that its parts multiply."""

from __future__ import annotations

from collections.abc import Iterable

from crisp_onnx.format.operators import DEPTHWISE, MAX_POOL, TABLE
from crisp_onnx.lowering.layout import CONVERSION, LAYOUT, MOST_AXES, runs_hybrid
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.quantised import CONVERSIONS, plain_name
from crisp_onnx.lowering.schema import TimingKind

PARTS = (
    "fixed",
    "mac",
    "weight_byte",
    "far_weight_byte",
    "input_byte",
    "output_byte",
    "far_byte",
    "pass_byte",
    "clamp_byte",
    "row",
)
WEIGHT_PARTS = ("weight_byte", "far_weight_byte")
"""Of the parts those of a layer's weights; those of bytes beside them are of its activations."""
_FUNCTIONS = ("Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Exp", "Erf", "Gelu", "HardSwish", "Elu", "Pow", "Sqrt")
_OWN_KIND: dict[str, TimingKind] = {
    "MaxPool": "max_pool",
    "GlobalAveragePool": "global_pool",
    "ReduceMean": "global_pool",
    "Concat": "concat",
    "LRN": "lrn",
    "Transpose": "transpose",
    "LayerNormalization": "normalise",
    **dict.fromkeys(_FUNCTIONS, "function"),
    LAYOUT: "layout",
    CONVERSION: "conversion",
    MAX_POOL: "int8_own_max_pool",
    DEPTHWISE: "int8_own_depthwise",
    TABLE: "int8_own_table",
}
_ON_BYTES: dict[TimingKind, TimingKind] = {
    "conv_first": "int8_conv_first",
    "conv_kxk": "int8_conv_kxk",
    "conv_kxk_unaligned": "int8_conv_kxk",
    "conv_1x1": "int8_conv_1x1",
    "conv_1x1_unaligned": "int8_conv_1x1",
    "depthwise": "int8_depthwise",
    "depthwise_unaligned": "int8_depthwise",
    "grouped": "int8_grouped",
    "gemm": "int8_gemm",
    "gemv": "int8_gemv",
    "elementwise": "int8_elementwise",
    "function": "int8_function",
    "transpose": "int8_transpose",
    "shuffle": "int8_shuffle",
    "concat": "int8_concat",
    "layout": "int8_layout",
    "pool": "int8_pool",
    "global_pool": "int8_global_pool",
    "max_pool": "int8_max_pool",
    "hybrid_kxk": "int8_hybrid_kxk",
    "hybrid_1x1": "int8_hybrid_1x1",
    "hybrid_gemm": "int8_hybrid_gemm",
}
"""The kind of a layer in int8, by that of the same layer in floats."""
_ON_PLAIN_BYTES: dict[TimingKind, TimingKind] = {
    "int8_max_pool": "int8_max_pool_plain",
    "int8_pool": "int8_pool_plain",
    "int8_shuffle": "int8_transpose",
}
"""Of bytes whose channels do not come last: the runtime has no fast code for pools, and none that is slow for shuffles,
which move whole rows."""
FEW_POSITIONS = 8
_INSIDE = frozenset({"Add", "BatchNormalization", "Clip", "Div", "Mul", "Relu", "Sub"})
"""Neighbours that the runtime computes inside every product, where the arithmetic is with constants or a residual."""
_INSIDE_CONV = frozenset({"HardSigmoid", "LeakyRelu", "Sigmoid", "Tanh"})
_GATES = frozenset({"HardSigmoid", "Sigmoid", "Tanh"})
# A kind that was not measured is timed as the one it stands beside here.
_STAND_IN: dict[TimingKind, TimingKind] = {
    "hybrid_1x1": "hybrid_kxk",
    "hybrid_gemm": "hybrid_1x1",
    "conv_first": "conv_kxk_unaligned",
    "conv_1x1_unaligned": "conv_1x1",
    "conv_kxk_unaligned": "conv_kxk",
    "conv_1x1": "conv_kxk",
    "depthwise_unaligned": "depthwise",
    "grouped": "conv_kxk_unaligned",
    "gemv": "gemm",
    "gemm": "conv_1x1",
    "max_pool": "pool",
    "pool": "global_pool",
    "global_pool": "concat",
    "elementwise": "pool",
    "concat": "elementwise",
    "lrn": "function",
    "normalise": "function",
    "function": "elementwise",
    "transpose": "layout",
    "shuffle": "transpose",
    "layout": "concat",
    "conversion": "layout",
    "int8_hybrid_1x1": "int8_hybrid_kxk",
    "int8_hybrid_gemm": "int8_hybrid_1x1",
    "int8_conv_first": "int8_conv_kxk",
    "int8_conv_1x1": "int8_conv_kxk",
    "int8_grouped": "int8_conv_kxk",
    "int8_gemv": "int8_gemm",
    "int8_gemm": "int8_conv_1x1",
    "int8_own_max_pool": "int8_max_pool",
    "int8_own_depthwise": "int8_depthwise",
    "int8_own_table": "int8_function",
    "int8_function": "int8_elementwise",
    "int8_transpose": "int8_layout",
    "int8_shuffle": "int8_transpose",
    "int8_max_pool_plain": "int8_max_pool",
    "int8_pool_plain": "int8_pool",
    "int8_max_pool": "int8_pool",
    "int8_pool": "int8_global_pool",
    "int8_global_pool": "int8_concat",
    "int8_elementwise": "int8_pool",
    "int8_concat": "int8_elementwise",
    "int8_layout": "int8_concat",
}


def timing_kind(op: LoweredOp, granule: int) -> TimingKind:
    """Runtimes keep channels in groups of `granule`; layers whose channels do not fill them take slower paths."""
    kind = _kind(op, granule)
    if op.dtype != "int8":
        return kind
    kind = _ON_BYTES.get(kind, kind)
    return _ON_PLAIN_BYTES.get(kind, kind) if op.order == "plain" else kind


def _kind(op: LoweredOp, granule: int) -> TimingKind:
    matrix = op.matrix
    if matrix is None or op.op in _OWN_KIND:
        return _without_weights(op)
    if runs_hybrid(op):
        if matrix.N <= FEW_POSITIONS:
            return "hybrid_gemm"
        return "hybrid_1x1" if matrix.window == (1, 1) else "hybrid_kxk"
    if "Conv" not in op.op:
        return "gemm" if matrix.N > FEW_POSITIONS else "gemv"
    return _grouped(matrix, granule) if matrix.groups > 1 else _plain(matrix, granule)


def _without_weights(op: LoweredOp) -> TimingKind:
    name = op.op if op.op in _OWN_KIND else plain_name(op.op)
    if name == "Transpose" and op.axes > MOST_AXES:
        return "shuffle"
    return _OWN_KIND.get(name, "pool" if op.kind == "pool" else "elementwise")


def _plain(matrix: Matrix, granule: int) -> TimingKind:
    channels = matrix.K // (matrix.window[0] * matrix.window[1])
    if channels < granule:
        return "conv_first"
    aligned = channels % granule == 0 and matrix.M % granule == 0
    if matrix.window == (1, 1):
        return "conv_1x1" if aligned else "conv_1x1_unaligned"
    return "conv_kxk" if aligned else "conv_kxk_unaligned"


def _grouped(matrix: Matrix, granule: int) -> TimingKind:
    if matrix.window[0] * matrix.window[1] != matrix.K:
        return "grouped"
    return "depthwise" if matrix.groups % granule == 0 else "depthwise_unaligned"


def stand_ins(kind: TimingKind) -> tuple[TimingKind, ...]:
    """`kind` and the kinds that stand in for it where it was not measured, nearest first."""
    found = [kind]
    while (following := _STAND_IN.get(found[-1])) is not None and following not in found:
        found.append(following)
    floats = next((plain for plain, on_bytes in _ON_BYTES.items() if on_bytes == kind), None)
    return (*found, *stand_ins(floats)) if floats is not None else tuple(found)


def fetched_share(model_weight_bytes: int, last_cache_bytes: float) -> float:
    """Share of the weights that every run fetches from beyond a core's own caches: the larger the model, the more.

    Caches do not drop all of what is read in turn as soon as it exceeds them. With a quarter of the last cache in the
    place of their size, one rate serves models of a megabyte and of hundreds.
    """
    near = last_cache_bytes / 4
    return model_weight_bytes / (model_weight_bytes + near) if near else 1.0


def weight_bytes(operators: Iterable[LoweredOp]) -> int:
    """Stored bytes of all weights."""
    return sum(op.tiling.stored_weight_bytes for op in operators if op.tiling)


def work(op: LoweredOp, granule: int, fetched: float, near: float = 0) -> tuple[float, ...]:
    """Amounts in the order of `PARTS`.

    Once; MACs (output channels rounded up to `granule`), or what a pool compares or adds; bytes of weights, and of
    those that come from beyond a core's own caches; bytes read and written; of both, those beyond `near`; bytes that
    an activation which the product does not do itself goes over again, and those that a clamp on both sides does;
    rows of outputs, of all channels, each of which a convolution begins and ends anew.

    `near`: bytes of a core's own cache, 0 where it is not known. `fetched`: see `fetched_share`.
    """
    matrix, tiling = op.matrix, op.tiling
    if matrix is None or tiling is None:
        far = _far(op.input_bytes + op.output_bytes, near)
        compared = op.output_bytes / BYTES[op.dtype or "fp32"] * op.taps if op.taps > 1 else 0.0
        return 1.0, compared, 0.0, 0.0, float(op.input_bytes), float(op.output_bytes), far, 0.0, 0.0, 0.0
    rows = -(-matrix.M // granule) * granule if matrix.groups == 1 else matrix.M
    macs = tiling.computed_macs * rows / matrix.M
    written = op.output_bytes + matrix.residuals * op.output_bytes // max(1, matrix.outputs)
    weights = float(tiling.stored_weight_bytes)
    far = _far(op.input_bytes + written, near)
    passed = float(op.output_bytes) if _goes_over(op) else 0.0
    clamped = float(op.output_bytes) if "Clip" in op.fused_ops and _inside_floats(op) else 0.0
    begun = matrix.outputs / matrix.out_hw[1] if "Conv" in op.op else 0.0
    return 1.0, macs, weights, weights * fetched, float(op.input_bytes), float(written), far, passed, clamped, begun


def _inside_floats(op: LoweredOp) -> bool:
    """Whether the runtime itself convolves floats, whose kernels do Relu alone without a pass of its own."""
    return op.dtype != "int8" and "Conv" in op.op and not runs_hybrid(op)


def _goes_over(op: LoweredOp) -> bool:
    """Whether a fused neighbour is a pass of its own over the output in the runtime."""
    types = frozenset(op.fused_ops)
    apart = types - _INSIDE - CONVERSIONS - (_INSIDE_CONV if _inside_floats(op) else frozenset())
    return bool(apart) or ("Mul" in types and bool(types & _GATES))


def _far(moved: int, near: float) -> float:
    return max(0.0, moved - near) if near else 0.0
