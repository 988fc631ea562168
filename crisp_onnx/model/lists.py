"""How long the lists are that shape inference carries along: ONNX takes 150 bytes for each value of any of them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import onnx

from crisp_onnx.model.shapes import Shapes

CARRYING = frozenset({"Add", "Cast", "Concat", "Gather", "Mul", "Slice", "Squeeze", "Sub", "Unsqueeze"})
_AXES_OF_FEATURES = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool",
})  # fmt: skip
_WIDEST = frozenset({"Add", "Concat", "Div", "Expand", "MatMul", "Mul", "Pow", "Sub"})
_AS_FIRST = frozenset({
    "Cast", "Clip", "DepthToSpace", "DequantizeLinear", "Dropout", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "LogSoftmax", "Pad", "PRelu",
    "QuantizeLinear", "Relu", "Resize", "Sigmoid", "Slice", "Softmax", "SpaceToDepth", "Split", "Sqrt", "Tanh",
    "Tile", "Transpose",
})  # fmt: skip


def longest_list(nodes: Iterable[onnx.NodeProto], shapes: Shapes) -> float:
    """The most values of one list that inference may follow; infinite where the shapes do not tell.

    `shapes`: as far as they are inferred without following any. Features of two axes and more are no lists.
    """
    axes: dict[str, int] = {name: len(shape) for name, shape in shapes.items()}
    longest = 0.0
    for node in nodes:
        if node.op_type in CARRYING:
            for name in filter(None, (*node.input, *node.output[:1])):
                if name in shapes:
                    longest = max(longest, shapes[name][0] if len(shapes[name]) == 1 else 0)
                elif name in node.input and axes.get(name, 0) < 2:
                    return inf
        least = _least_axes(node, axes, shapes)
        for name in node.output:
            axes.setdefault(name, least)
    return longest


def _least_axes(node: onnx.NodeProto, axes: dict[str, int], shapes: Shapes) -> int:
    """Of the result of a node whose shape is not known; 0 where nothing tells."""
    read = [axes.get(name, 0) for name in node.input]
    if node.op_type in _AXES_OF_FEATURES:
        return 2
    if node.op_type in _WIDEST:
        return max(read, default=0)
    if node.op_type in _AS_FIRST:
        return next(iter(read), 0)
    if node.op_type == "Reshape" and len(shapes.get(node.input[1], ())) == 1:
        return shapes[node.input[1]][0]
    return 0
