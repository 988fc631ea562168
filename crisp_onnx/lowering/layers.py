"""Lower a list of layers, given as matrices and patterns, to a target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crisp_onnx.errors import CrispError
from crisp_onnx.format.operators import OPERATORS, hybrid_name, standard_name
from crisp_onnx.lowering.layer_sparsity import DENSE, LayerSparsity, see
from crisp_onnx.lowering.lowered import Lowered, LoweredOp, Source, totals
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.schema import Dtype, OpKind
from crisp_onnx.lowering.target import Target
from crisp_onnx.lowering.tiling import tile


@dataclass(frozen=True)
class Layer:
    """One operator before lowering. `matrix` is `None` for operators that only move data.

    `inputs`, `outputs`: values read and written by those. `weight`: name of the stored weight. `reads`: the operators
    whose outputs it takes.
    """

    name: str
    op: str
    kind: OpKind
    matrix: Matrix | None = None
    pattern: LayerSparsity = DENSE
    inputs: int = 0
    outputs: int = 0
    fused: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    weight: str = ""
    activation_density: float = 1.0


def choose_dtype(target: Target, wanted: str | None) -> tuple[Dtype, str]:
    """(type the target computes in, note). `wanted` if the target has it, else the target's first.

    Raises:
        CrispError: `wanted` is no type of crisp-hw/1.
    """
    known = target.descriptor.dtypes
    if wanted is None:
        return known[0], ""
    if wanted not in BYTES:
        raise CrispError(f"Unknown type {wanted!r}. Use one of {', '.join(BYTES)}.")
    for dtype in known:
        if dtype == wanted:
            return dtype, ""
    return known[0], f"{target.name} does not compute in {wanted}: costed in {known[0]}, accuracy is not looked at"


def lower_layers(
    layers: Iterable[Layer],
    target: Target,
    *,
    source: Source,
    batch: int = 1,
    dtype: str | None = None,
    notes: tuple[str, ...] = (),
) -> Lowered:
    """Every layer as `target` sees it, in the given order."""
    chosen, note = choose_dtype(target, dtype)
    operators = tuple(lower_layer(layer, target, chosen) for layer in layers)
    return Lowered(
        target=target.name,
        target_version=target.descriptor.version,
        model=source,
        batch=batch,
        dtype=chosen,
        notes=(*notes, note) if note else notes,
        operators=operators,
        totals=totals(operators),
    )


def lower_layer(layer: Layer, target: Target, dtype: Dtype) -> LoweredOp:
    """One layer with its tiling, or only its bytes where it is no product."""
    size = BYTES[dtype]
    matrix = layer.matrix
    if matrix is None:
        return LoweredOp(
            name=layer.name,
            op=layer.op,
            kind=layer.kind,
            input_bytes=layer.inputs * size,
            output_bytes=layer.outputs * size,
            fused=layer.fused,
            reads=layer.reads,
        )
    seen = see(layer.pattern, target, k=matrix.K, kernel_taps=matrix.window[0] * matrix.window[1])
    return LoweredOp(
        name=layer.name,
        op=layer.op,
        kind=layer.kind,
        weight=layer.weight,
        matrix=matrix,
        pattern=layer.pattern,
        seen=seen,
        tiling=tile(matrix, layer.pattern, seen, target, dtype, activation_density=layer.activation_density),
        input_bytes=matrix.inputs * size,
        output_bytes=matrix.outputs * size,
        fused=layer.fused,
        reads=layer.reads,
        activation_density=layer.activation_density,
    )


def lower_again(op: LoweredOp, pattern: LayerSparsity, target: Target, dtype: Dtype, *, hybrid: bool) -> LoweredOp:
    """A lowered product with another pattern, in a hybrid operator or a plain one."""
    matrix = op.matrix
    if matrix is None:
        return op
    name = hybrid_name(op.op) if hybrid else standard_name(op.op)
    kind = product_kind(matrix, name)
    layer = Layer(
        op.name, name, kind, matrix, pattern, fused=op.fused, reads=op.reads,
        weight=op.weight, activation_density=op.activation_density,
    )  # fmt: skip
    return lower_layer(layer, target, dtype)


def product_kind(matrix: Matrix, op: str) -> OpKind:
    """The kind of a product, by which calibrated targets keep efficiency and overhead."""
    if op in OPERATORS:
        return "hybrid"
    if not op.endswith("Conv") and not op.startswith("Conv"):
        return "gemm" if matrix.N > 8 else "gemv"
    if matrix.groups > 1:
        return "depthwise" if matrix.window[0] * matrix.window[1] == matrix.K else "grouped"
    if matrix.window == (1, 1):
        return "conv1x1"
    return "conv3x3" if matrix.window == (3, 3) else "conv"
