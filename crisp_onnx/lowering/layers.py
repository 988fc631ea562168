"""Lower a list of layers, given as matrices and patterns, to a target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crisp_onnx.errors import CrispError
from crisp_onnx.format.operators import INT8, OPERATORS, hybrid_name, standard_name
from crisp_onnx.lowering.forms import Ground, best_form
from crisp_onnx.lowering.layer_sparsity import DENSE, LayerSparsity
from crisp_onnx.lowering.lowered import Lowered, LoweredOp, Source, totals
from crisp_onnx.lowering.matrix import BYTES, Matrix
from crisp_onnx.lowering.memory import NOWHERE, Stay
from crisp_onnx.lowering.residency import REARRANGING, Held, peak_bytes, stays
from crisp_onnx.lowering.retyped import retyped
from crisp_onnx.lowering.schema import Dtype, OpKind
from crisp_onnx.lowering.target import Target


@dataclass(frozen=True)
class Layer:
    """One operator before lowering. `matrix` is `None` for operators that only move data.

    `inputs`, `outputs`: values read and written by those; `taps`: values that a pool takes for each that it gives;
    `axes`: of the tensor that a transpose gives.
    `fused_ops`: types of the neighbours in `fused`. `weight`: name of the stored weight. `reads`: the operators
    whose outputs it takes. `constants`: values stored with the model, other than weights, that it is the first to read.
    `border`: values of the model's own input, where it takes that; `answers`: whether the model gives what it gives.
    `dtype`: in which the model computes it.
    """

    name: str
    op: str
    kind: OpKind
    matrix: Matrix | None = None
    pattern: LayerSparsity = DENSE
    inputs: int = 0
    outputs: int = 0
    taps: int = 1
    axes: int = 0
    fused: tuple[str, ...] = ()
    fused_ops: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    weight: str = ""
    activation_density: float = 1.0
    constants: int = 0
    border: int = 0
    answers: bool = False
    dtype: Dtype = "fp32"


def choose_dtype(target: Target, wanted: str | None) -> Dtype:
    """The type that the target computes in: `wanted`, or its first.

    Raises:
        CrispError: the target does not compute in `wanted`.
    """
    known = target.descriptor.dtypes
    found = known[0] if wanted is None else next((dtype for dtype in known if dtype == wanted), None)
    if found is None:
        raise CrispError(f"{target.name} does not compute in {wanted}. Use {' or '.join(known)}.")
    return found


def lower_layers(
    layers: Iterable[Layer],
    target: Target,
    *,
    source: Source,
    batch: int = 1,
    dtype: str | None = None,
    notes: tuple[str, ...] = (),
) -> Lowered:
    """Every layer as `target` sees it, in the given order.

    `dtype`: of the layers in floats; one that is asked for also holds for the others that the target can compute in it.
    """
    chosen = choose_dtype(target, dtype)
    listed = tuple(layers)
    types = [layer_dtype(layer, target, chosen, asked=dtype is not None) for layer in listed]
    held = [_held(layer, target, kind) for layer, kind in zip(listed, types, strict=True)]
    places = stays(held, target)
    operators = tuple(
        lower_layer(layer, target, kind, stay=places[layer.name]) for layer, kind in zip(listed, types, strict=True)
    )
    changes = [(layer.dtype, kind, layer.matrix is not None) for layer, kind in zip(listed, types, strict=True)]
    return Lowered(
        target=target.name,
        target_version=target.descriptor.version,
        target_sha256=target.sha256,
        model=source,
        batch=batch,
        dtype=chosen,
        notes=notes,
        retyped=retyped(changes, target.descriptor.dtypes, asked=dtype is not None),
        operators=operators,
        totals=totals(operators),
        peak_activation_bytes=peak_bytes(held),
    )


def layer_dtype(layer: Layer, target: Target, chosen: Dtype, *, asked: bool) -> Dtype:
    """The type in which `layer` is costed.

    A hybrid operator of floats runs on floats where only this package's kernels skip: it has no others.
    """
    known = target.descriptor.dtypes
    if layer.op in OPERATORS and target.descriptor.sparsity.hybrid_operators_only:
        own: Dtype = "int8" if OPERATORS[layer.op].element == INT8 else "fp32"
        return own if own in known else chosen
    return "int8" if layer.dtype == "int8" and "int8" in known and not asked else chosen


def _held(layer: Layer, target: Target, dtype: Dtype) -> Held:
    size, matrix = BYTES[dtype], layer.matrix
    rows = target.whole(target.descriptor.array.rows)
    tile_bytes = min(rows, matrix.M) * matrix.K * size if matrix is not None and matrix.weighted else 0
    capacity = target.number(target.buffer.capacity) if target.buffer else None
    if capacity is not None:
        tile_bytes = min(tile_bytes, int(capacity) // 2)  # a longer row comes in parts
    return Held(
        layer.name,
        (matrix.outputs if matrix else layer.outputs) * size,
        tile_bytes,
        layer.reads,
        layer.kind == "elementwise" and layer.op not in REARRANGING,
        layer.border * size,
        layer.answers,
    )


def lower_layer(layer: Layer, target: Target, dtype: Dtype, *, stay: Stay = NOWHERE) -> LoweredOp:
    """One layer with its tiling, or only its bytes where it is no product. `stay`: see `memory.Stay`."""
    size = BYTES[dtype]
    matrix = layer.matrix
    if matrix is None:
        return LoweredOp(
            name=layer.name,
            op=layer.op,
            kind=layer.kind,
            input_bytes=layer.inputs * size,
            output_bytes=layer.outputs * size,
            taps=layer.taps,
            axes=layer.axes,
            constant_bytes=layer.constants * size,
            fused=layer.fused,
            fused_ops=layer.fused_ops,
            reads=layer.reads,
            dtype=dtype,
            stay=stay,
        )
    ground = Ground(
        matrix, target, dtype, layer.kind, product_kind(matrix, standard_name(layer.op)), layer.activation_density, stay
    )
    form = best_form(layer.pattern, ground)
    return LoweredOp(
        name=layer.name,
        op=layer.op,
        kind=form.kind,
        weight=layer.weight,
        matrix=matrix,
        pattern=layer.pattern,
        seen=form.seen,
        tiling=form.tiling,
        input_bytes=matrix.inputs * size,
        output_bytes=matrix.outputs * size,
        constant_bytes=layer.constants * size,
        fused=layer.fused,
        fused_ops=layer.fused_ops,
        reads=layer.reads,
        activation_density=layer.activation_density,
        dtype=dtype,
        stay=stay,
    )


def lower_again(op: LoweredOp, pattern: LayerSparsity, target: Target, dtype: Dtype, *, hybrid: bool) -> LoweredOp:
    """A lowered product with another pattern, in a hybrid operator or a plain one.

    `dtype`: where the operator does not say in which it was costed.
    """
    matrix = op.matrix
    if matrix is None:
        return op
    name = hybrid_name(op.op) if hybrid else standard_name(op.op)
    kind = product_kind(matrix, name)
    layer = Layer(
        op.name, name, kind, matrix, pattern, fused=op.fused, fused_ops=op.fused_ops, reads=op.reads,
        weight=op.weight, activation_density=op.activation_density,
        constants=op.constant_bytes // BYTES[op.dtype or dtype],
    )  # fmt: skip
    return lower_layer(layer, target, op.dtype or dtype, stay=op.stay)


def lower_elsewhere(op: LoweredOp, target: Target) -> LoweredOp:
    """A lowered operator on another target, in the type of its own that is nearest."""
    known = target.descriptor.dtypes
    dtype = next((found for found in known if found == op.dtype), known[0])
    size = BYTES[op.dtype or dtype]
    kind = op.kind if op.matrix is None else product_kind(op.matrix, op.op)  # not that of the form it runs in here
    layer = Layer(
        op.name, op.op, kind, op.matrix, op.pattern, op.input_bytes // size, op.output_bytes // size, op.taps,
        axes=op.axes, activation_density=op.activation_density,
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
