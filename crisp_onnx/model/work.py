"""How much work a graph says it is, before anything of it runs: an upper bound of its elements and multiplications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod

import onnx

Shapes = Mapping[str, Sequence[int]]

PRODUCTS = frozenset({
    "MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Einsum",
})  # fmt: skip
"""Each element of the result reads at most one of the operands once, but for its longest axis."""
WINDOWS = frozenset({"MaxPool", "AveragePool", "LpPool"})
PLAIN = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization",
    "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip",
    "Concat", "Constant", "ConstantOfShape", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Div",
    "Dropout", "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor",
    "Gather", "GatherElements", "GatherND", "Gelu", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity",
    "InstanceNormalization", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "LpNormalization", "Max", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "RMSNormalization", "Range", "Reciprocal",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Selu",
    "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK",
    "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor",
})  # fmt: skip
"""What takes a few steps for each element that it reads or writes."""


def multiplications(node: onnx.NodeProto, shapes: Shapes) -> float:
    """At most so many; infinite for an operator of which nothing is known here. Every tensor must have its shape."""
    written = sum(prod(shapes[name]) for name in node.output if name)
    read = [shapes[name] for name in node.input if name]
    if node.op_type in PLAIN:
        return float(written + sum(map(prod, read)))
    if node.op_type in PRODUCTS:
        return float(written) * min((inner(shape) for shape in read if shape), default=1)
    if node.op_type in WINDOWS:
        kernel = next((prod(a.ints) for a in node.attribute if a.name == "kernel_shape"), inf)
        return float(written) * min(kernel, max(map(prod, read), default=1))
    return inf


def inner(shape: Sequence[int]) -> int:
    """Elements of an operand that one element of a product reads, at most: all but its longest axis."""
    longest = max(shape)
    return max(prod(shape) // max(longest, 1), longest)
