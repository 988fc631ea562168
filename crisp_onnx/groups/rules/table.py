"""The rule of every operator that channels are followed through, and why some are not followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx_graphsurgeon as gs

from crisp_onnx.groups.rules import elementwise, norms, pieces, products, shapes, windows
from crisp_onnx.groups.rules.reductions import REDUCTIONS, reduction
from crisp_onnx.groups.ties import NodeTies

Rule = Callable[[gs.Node, NodeTies], None]

ELEMENTWISE = (
    "Abs", "Acos", "Add", "And", "Asin", "Atan", "Cast", "Ceil", "Celu", "Cos", "Div", "Elu", "Equal", "Erf", "Exp",
    "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow",
    "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub",
    "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
)  # fmt: skip

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(ELEMENTWISE, elementwise.elementwise),
        **dict.fromkeys(("Clip", "Dropout"), elementwise.first_operand),
        **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), elementwise.scaled),
        **dict.fromkeys(REDUCTIONS, reduction),
        **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), norms.per_channel),
        **dict.fromkeys(("Softmax", "LogSoftmax"), norms.softmax),
        **dict.fromkeys(("LayerNormalization", "RMSNormalization"), norms.layer_norm),
        "GroupNormalization": norms.group_norm,
        **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), windows.pool),
        **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), windows.global_pool),
        "Resize": windows.resize,
        "Conv": products.conv,
        "ConvTranspose": products.conv_transpose,
        "Gemm": products.gemm,
        "MatMul": products.matmul,
        "Concat": pieces.concat,
        "Split": pieces.split,
        "Slice": pieces.slice_,
        "Gather": pieces.gather,
        "Pad": pieces.pad,
        "Expand": pieces.expand,
        "Transpose": pieces.transpose,
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), shapes.reshape),
        **dict.fromkeys(("Shape", "Size"), shapes.shape_of),
    }
)
MANY_RESULTS = frozenset({"Split", "Dropout"})
"""Operators whose rule speaks of all outputs; of the others it speaks of the first alone."""

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "LRN": "it mixes neighbouring channels",
        "DepthToSpace": "it turns channels into positions",
        "SpaceToDepth": "it turns positions into channels",
        "CumSum": "it adds up in their order",
        "ArgMax": "it answers with their places",
        "TopK": "it answers with their places",
    }
)
UNKNOWN = "channels are not followed through this operator"
