"""Read the operators of an ONNX model, dense or with hybrid operators, as layers to be lowered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format.node import HybridNode, data_of, is_hybrid, kept_blocks_of, read, residual_of, weight_name
from crisp_onnx.format.operators import BYTE_OPERATORS, INT8, MAX_POOL
from crisp_onnx.lowering.detect import detect
from crisp_onnx.lowering.flow import flow
from crisp_onnx.lowering.folded import hands_on, settled
from crisp_onnx.lowering.fusion import Fusion, fuse
from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.layers import Layer, product_kind
from crisp_onnx.lowering.matrix import Matrix, conv_matrix, product_matrix, transposed_conv_matrix
from crisp_onnx.lowering.quantised import ByteProduct, byte_product, moves_bytes, on_bytes, operands
from crisp_onnx.lowering.schema import Dtype, OpKind
from crisp_onnx.model import Model, WeightLayer, weight_layers
from crisp_onnx.model.macs import contraction, macs_of

Shapes = Mapping[str, tuple[int, ...]]
POOLS = frozenset(
    (
        "MaxPool",
        MAX_POOL,
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "LpPool",
        "ReduceMean",
        "ReduceMax",
        "ReduceSum",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "QLinearReduceMean",
    )
)
# Of their first input only what comes out is read: rows of a table, a part of a tensor.
_PARTIAL = frozenset(("Gather", "GatherElements", "GatherND", "Slice", "Compress"))


def read_layers(
    model: Model, shapes: Shapes, runs: Callable[[str], bool] = lambda op: True
) -> tuple[list[Layer], list[str]]:
    """(layers in execution order, a sentence for every operator that is left out).

    `shapes`: tensor shapes of the batch that is costed. `runs`: whether the target has an operator.
    """
    graph = model.graph()
    weights = {layer.name: layer for layer in weight_layers(model, shapes)}
    in_bytes = {node.name: found for node in graph.nodes if (found := byte_product(node)) is not None}
    rank = {node.name: place for place, node in enumerate(graph.nodes)}
    products = [node for node in graph.nodes if node.name in weights or node.name in in_bytes or is_hybrid(node)]
    still = settled(graph)
    fusion = fuse(graph, products, rank, still=still, runs=runs)
    layers: list[Layer] = []
    notes: list[str] = []
    floats = _floats(graph.inputs, "fp32")
    stored: set[str] = set()
    for node in graph.nodes:
        if node.name in fusion.taken or node.name in still or hands_on(node, shapes):
            continue
        layer = _layer(node, weights.get(node.name), in_bytes.get(node.name), fusion, shapes, floats)
        if isinstance(layer, str):
            notes.append(layer)
        elif layer.matrix is None or not layer.matrix.weighted:
            layers.append(replace(layer, constants=_constants(node, stored)))
        else:
            layers.append(layer)
    entry = model.input.name
    flows = flow(graph, entry, fusion, {layer.name for layer in layers}, still)
    border = prod(shapes.get(entry, ()))
    return [
        replace(
            layer,
            reads=flows.reads[layer.name],
            border=border if layer.name in flows.takes else 0,
            answers=layer.name in flows.answers,
        )
        for layer in layers
    ], notes


def _constants(node: gs.Node, stored: set[str]) -> int:
    """Values of the initializers that no operator before `node` reads; their names join `stored`."""
    fresh = {t.name: t for t in node.inputs if isinstance(t, gs.Constant) and t.name not in stored}
    stored.update(fresh)
    return sum(prod(tensor.shape) for tensor in fresh.values())


def _layer(
    node: gs.Node,
    weight: WeightLayer | None,
    product: ByteProduct | None,
    fusion: Fusion,
    shapes: Shapes,
    floats: Dtype,
) -> Layer | str:
    """`floats`: the type of floats that the model takes."""
    needed = [t.name for t in (*node.inputs[:1], *node.outputs[:1])]
    if any(name not in shapes for name in needed):
        return f"{node.op} {node.name!r} is left out: the shape of {needed} is unknown"
    if is_hybrid(node) or weight is not None:
        own = _hybrid_product(node, shapes) if weight is None else _plain_product(node, weight, shapes, floats)
        return _with_neighbours(own, fusion, shapes)
    if product is not None:
        return _with_neighbours(_byte_layer(node, product, shapes), fusion, shapes)
    byte_like = on_bytes(node) or moves_bytes(node) or node.op in BYTE_OPERATORS or node.op.startswith("QLinear")
    dtype: Dtype = "int8" if byte_like else _floats((*node.inputs, *node.outputs), floats)
    if macs_of(node, shapes) == 0 or (byte_like and node.op not in _MATRICES):
        return _mover(node, shapes, dtype)
    return _open_product(node, shapes, dtype)


def _floats(tensors: Iterable[gs.Tensor], otherwise: Dtype) -> Dtype:
    """The type of the first of `tensors` that holds floats and whose type is known."""
    for tensor in tensors:
        if tensor.dtype is not None and np.issubdtype(tensor.dtype, np.floating):
            return "fp16" if tensor.dtype == np.float16 else "fp32"
    return otherwise


def _open_product(node: gs.Node, shapes: Shapes, dtype: Dtype) -> Layer | str:
    """A product whose factors the model computes or a caller gives."""
    if node.op not in _MATRICES:
        return f"{node.op} {node.name!r} is left out: this operator has no cost model"
    try:
        matrix = _MATRICES[node.op](node, shapes)
    except LookupError:
        return f"{node.op} {node.name!r} is left out: its operands are too many, or of unknown shapes"
    return Layer(node.name, node.op, product_kind(matrix, node.op), matrix, dtype=dtype)


def _mover(node: gs.Node, shapes: Shapes, dtype: Dtype) -> Layer:
    """An operator that only moves data."""
    outputs = sum(prod(shapes[t.name]) for t in node.outputs if t.name in shapes)
    read = [prod(shapes[t.name]) for t in node.inputs if t.name in shapes]
    if node.op in _PARTIAL and read:
        read[0] = min(read[0], outputs)
    kind: OpKind = "pool" if node.op in POOLS else "elementwise"
    taps = prod(int(side) for side in node.attrs.get("kernel_shape") or ()) if kind == "pool" else 1
    axes = len(shapes[node.outputs[0].name]) if node.op == "Transpose" else 0
    return Layer(node.name, node.op, kind, inputs=sum(read), outputs=outputs, taps=max(1, taps), axes=axes, dtype=dtype)


def _byte_layer(node: gs.Node, product: ByteProduct, shapes: Shapes) -> Layer:
    matrix = _plain_matrix(node, product.layer, shapes)
    pattern = detect(product.layer.matrix(product.values))
    kind = product_kind(matrix, product.layer.op)
    return Layer(node.name, node.op, kind, matrix, pattern, weight=product.layer.weight, dtype="int8")


def _hybrid_product(node: gs.Node, shapes: Shapes) -> Layer:
    hybrid = read(node)
    residuals = prod(shapes[node.outputs[0].name]) if residual_of(node) is not None else 0
    matrix = _hybrid_matrix(hybrid, shapes[data_of(node).name], residuals)
    pattern = _hybrid_pattern(hybrid, kept_blocks_of(node))
    dtype: Dtype = "int8" if hybrid.operator.element == INT8 else "fp32"
    kind = product_kind(matrix, node.op)
    return Layer(node.name, node.op, kind, matrix, pattern, weight=weight_name(node), dtype=dtype)


def _plain_product(node: gs.Node, weight: WeightLayer, shapes: Shapes, floats: Dtype) -> Layer:
    matrix, stored = _plain_matrix(node, weight, shapes), node.inputs[1]
    # A caller may give another weight than one that is an input of the graph too.
    pattern = detect(weight.matrix(stored.values)) if isinstance(stored, gs.Constant) else LayerSparsity()
    dtype = _floats((stored, *node.inputs), floats)
    return Layer(node.name, node.op, product_kind(matrix, node.op), matrix, pattern, weight=weight.weight, dtype=dtype)


def _with_neighbours(layer: Layer, fusion: Fusion, shapes: Shapes) -> Layer:
    """The layer with its fused neighbours, and with the residual that one of them reads."""
    matrix, residual = layer.matrix, fusion.residual.get(layer.name)
    if matrix is not None and residual is not None and residual in shapes:
        matrix = replace(matrix, residuals=matrix.residuals + prod(shapes[residual]))
    fused = fusion.heads.get(layer.name, ())
    return replace(layer, matrix=matrix, fused=fused, fused_ops=tuple(fusion.types[name] for name in fused))


def _plain_matrix(node: gs.Node, weight: WeightLayer, shapes: Shapes) -> Matrix:
    image, out = shapes[node.inputs[0].name], shapes[node.outputs[0].name]
    c_out, c_in, kh, kw = weight.shape
    if weight.op != "Conv":
        return product_matrix(c_out, c_in, prod(out) // c_out)
    columns = out[0] * prod(out[2:])
    return Matrix(
        M=c_out // weight.groups,
        K=c_in * kh * kw,
        N=columns,
        groups=weight.groups,
        inputs=prod(image),
        outputs=prod(out),
        window=(kh, kw),
        out_hw=(prod(out[2:-1]), out[-1]),
        stride=_stride(node),
    )


def _stride(node: gs.Node) -> tuple[int, int]:
    """Down and right; of signals along their one axis, of volumes along the last two."""
    steps = [int(step) for step in node.attrs.get("strides") or ()]
    return (1, 1, *steps)[-2], (1, 1, *steps)[-1]


def _activations_matrix(node: gs.Node, shapes: Shapes) -> Matrix:
    """A product of two operands, by the shape of its result (groups, N, M)."""
    macs, out = macs_of(node, shapes), shapes[node.outputs[0].name]
    if macs is None:
        raise LookupError
    rows, columns, groups = prod(out[-1:]), prod(out[-2:-1]), prod(out[:-2])
    matrix = product_matrix(rows, macs // max(1, prod(out)), columns, groups=groups, weighted=False)
    return replace(matrix, inputs=_read(node, shapes))


def _bytes_matrix(node: gs.Node, shapes: Shapes) -> Matrix:
    """A product of two operands in bytes, by the shapes of the left one and of the result."""
    left, right = (shapes[tensor.name] for tensor in operands(node))
    out = shapes[node.outputs[0].name]
    rows, columns, groups = prod(out[-1:]), prod(out[-2:-1]), prod(out[:-2])
    matrix = product_matrix(rows, left[-1], columns, groups=groups, weighted=False)
    return replace(matrix, inputs=prod(left) + prod(right))


def _einsum_matrix(node: gs.Node, shapes: Shapes) -> Matrix:
    found = contraction(node, shapes)
    matrix = product_matrix(found.columns, found.length, found.rows, groups=found.groups, weighted=False)
    return replace(matrix, inputs=_read(node, shapes))


def _transposed_matrix(node: gs.Node, shapes: Shapes) -> Matrix:
    image, out, weight = (shapes[tensor.name] for tensor in (node.inputs[0], node.outputs[0], node.inputs[1]))
    groups, stored = int(node.attrs.get("group", 1)), isinstance(node.inputs[1], gs.Constant)
    return transposed_conv_matrix(weight, image, out, groups, weighted=stored)


def _read(node: gs.Node, shapes: Shapes) -> int:
    return sum(prod(shapes[tensor.name]) for tensor in node.inputs[:2])


_MATRICES: Mapping[str, Callable[[gs.Node, Shapes], Matrix]] = {
    "ConvTranspose": _transposed_matrix,
    "Einsum": _einsum_matrix,
    "Gemm": _activations_matrix,
    "MatMul": _activations_matrix,
    "MatMulInteger": _bytes_matrix,
    "QLinearMatMul": _bytes_matrix,
}


def _hybrid_matrix(node: HybridNode, image: tuple[int, ...], residuals: int) -> Matrix:
    if node.window is None:
        return product_matrix(node.shape[0], node.shape[1], prod(image[:-1]))
    return conv_matrix(
        node.shape,
        (image[0], image[1], image[2], image[3]),
        stride=node.window.strides,
        pads=node.window.pads,
        dilation=node.window.dilations,
        residuals=residuals,
    )


def _hybrid_pattern(node: HybridNode, kept: int) -> LayerSparsity:
    return LayerSparsity(
        nm_keep=node.pattern.n,
        nm_group=node.pattern.m,
        block_rows=node.pattern.block,
        block_cols=node.pattern.block,
        kept_blocks=kept,
        vector_rows=node.pattern.vector_rows,
        hybrid=True,
    )
