"""The ONNX function bodies that let any runtime run the hybrid operators.

A body expands the weight with operators that mean the same from opset 13 to the newest and whose shapes do not depend
on data, so that ONNX Runtime folds the expansion at load; then it calls the standard operator. The body must be written
at the model's own opset: the checker refuses another, and the runtime resolves the body at the model's.

The bias of a Gemm is subtracted negated: what ONNX Runtime makes of MatMul and Add gives empty axes other sizes.

Weights of int8 become uint8 around 128 there: the same numbers, in the one form for which ONNX Runtime adds exactly on
every processor. For signed ones its kernels without VNNI saturate sums of two products.
"""

from __future__ import annotations

import onnx
from onnx import parser

from crisp_onnx.format.operators import (
    BYTE_OPERATORS,
    CONV,
    CONV_ADD,
    DEPTHWISE,
    DEPTHWISE_SLOTS,
    DOMAIN,
    GEMM,
    INT8,
    MAX_POOL,
    OPERATORS,
    Q_CONV,
    Q_CONV_ADD,
    Q_GEMM,
    TABLE,
    VERSION,
    Operator,
)
from crisp_onnx.model import Model

_INT8_WEIGHTS = """
  middle = Constant <value_int: int = 128> ()
  nothing = Cast <to: int = 2> (middle)
  middle32 = Cast <to: int = 6> (middle)
  values32 = Cast <to: int = 6> (values)
  weights32 = Add (values32, middle32)
  weights = Cast <to: int = 2> (weights32)
"""
_EXPAND = """
  zero = Constant <value_ints: ints = [0]> ()
  one = Constant <value_ints: ints = [1]> ()
  two = Constant <value_ints: ints = [2]> ()
  three = Constant <value_ints: ints = [3]> ()
  four = Constant <value_ints: ints = [4]> ()
  five = Constant <value_ints: ints = [5]> ()
  rest = Constant <value_ints: ints = [-1]> ()
  n_of = Constant <value_int: int = @n> ()
  m_of = Constant <value_int: int = @m> ()
  block_side = Constant <value_int: int = @block> ()
  bits = Constant <value_int: int = @index_bits> ()
  shape = Constant <value_ints: ints = @weight_shape> ()
  packed_shape = Shape (values)
  R = Slice (packed_shape, zero, one)
  S = Slice (packed_shape, one, two)
  G = Slice (packed_shape, two, three)
  {kept_columns}
  V = Slice (packed_shape, four, five)
  SZ = Mul (S, Z)
  scalar_zero = Constant <value_int: int = 0> ()
  scalar_one = Constant <value_int: int = 1> ()
  scalar_two = Constant <value_int: int = 2> ()
  byte = Constant <value_int: int = 8> ()
  shifts64 = Range (scalar_zero, byte, bits)
  shifts = Cast <to: int = 2> (shifts64)
  radix64 = Pow (scalar_two, bits)
  radix = Cast <to: int = 2> (radix64)
  indices1 = Unsqueeze (indices, rest)
  shifted = BitShift <direction: string = "RIGHT"> (indices1, shifts)
  low = Mod (shifted, radix)
  low_shape = Concat <axis: int = 0> (R, S, G, rest)
  low_flat = Reshape (low, low_shape)
  place8 = Slice (low_flat, zero, Z, three)
  place = Cast <to: int = 7> (place8)
  Z0 = Squeeze (Z)
  slot = Range (scalar_zero, Z0, scalar_one)
  group = Div (slot, n_of)
  group_start = Mul (group, m_of)
  in_block = Add (place, group_start)
  blocks64 = Cast <to: int = 7> (blocks)
  block_start = Mul (blocks64, block_side)
  last_axes = Concat <axis: int = 0> (two, three)
  block_start4 = Unsqueeze (block_start, last_axes)
  column4 = Add (in_block, block_start4)
  column_g = Transpose <perm: ints = [0, 2, 1, 3]> (column4)
  column_shape = Concat <axis: int = 0> (R, G, one, SZ)
  column1 = Reshape (column_g, column_shape)
  row_shape = Concat <axis: int = 0> (R, G, V, SZ)
  column = Expand (column1, row_shape)
  values_g = Transpose <perm: ints = {perm}> ({weights})
  kept = Reshape (values_g, row_shape)
  row_dims = Slice (shape, one, four)
  K = ReduceProd <keepdims: int = 1> (row_dims)
  K_up = Add (K, block_side)
  K_up1 = Sub (K_up, scalar_one)
  C = Div (K_up1, block_side)
  K_padded = Mul (C, block_side)
  empty_shape = Concat <axis: int = 0> (R, G, V, K_padded)
  empty = {empty}
  scattered = ScatterElements <axis: int = -1> (empty, column, kept)
  matrix_shape = Concat <axis: int = 0> (rest, K_padded)
  padded = Reshape (scattered, matrix_shape)
  Cout = Slice (shape, zero, one)
  ends = Concat <axis: int = 0> (Cout, K)
  starts = Concat <axis: int = 0> (zero, zero)
  axes = Concat <axis: int = 0> (zero, one)
  A = Slice (padded, starts, ends, axes)
"""
_OF_LANES = """six = Constant <value_ints: ints = [6]> ()
  lanes = Slice (packed_shape, three, four)
  in_lane = Slice (packed_shape, five, six)
  Z = Mul (lanes, in_lane)"""
_WINDOW = """
  Cin = Slice (shape, one, two)
  window = Slice (shape, two, four)
  hwc_shape = Concat <axis: int = 0> (Cout, window, Cin)
  hwc = Reshape (A, hwc_shape)
  W = Transpose <perm: ints = [0, 3, 1, 2]> (hwc)
"""
_CONV = """
  sums = Conv <strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations> (X, W, bias)
"""
_ADD = "  total = Add (sums, Z_in)\n"
_GEMM = """
  At = Transpose <perm: ints = [1, 0]> (A)
  products = MatMul (X, At)
  minus_bias = Neg (bias)
  sums = Sub (products, minus_bias)
"""
_CLIP = """
  low_bound = Constant <value_float: float = @lower> ()
  high_bound = Constant <value_float: float = @upper> ()
  Y = Clip ({}, low_bound, high_bound)
"""

_Q_CONV = """
  w_zero = Expand (nothing, Cout)
  unbounded = QLinearConv <strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations>
    (X, x_scale, x_zero, W, w_scale, w_zero, y_scale, y_zero, bias)
  low_bound = Constant <value_float: float = @lower> ()
  high_bound = Constant <value_float: float = @upper> ()
  low_byte = QuantizeLinear (low_bound, y_scale, y_zero)
  high_byte = QuantizeLinear (high_bound, y_scale, y_zero)
  Y = Clip (unbounded, low_byte, high_byte)
"""
_Q_CONV_ADD = """
  products = ConvInteger <strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations>
    (X, W, x_zero, nothing)
  per_channel = Concat <axis: int = 0> (one, rest, one, one)
  bias4 = Reshape (bias, per_channel)
  w_scale4 = Reshape (w_scale, per_channel)
  scale = Mul (x_scale, w_scale4)
  sums32 = Add (products, bias4)
  sums_real = Cast <to: int = 1> (sums32)
  sums = Mul (sums_real, scale)
  residual = DequantizeLinear (Z_in, z_scale, z_zero)
  total = Add (sums, residual)
"""
_Q_GEMM = """
  At = Transpose <perm: ints = [1, 0]> (A)
  products = MatMulInteger (X, At, x_zero, nothing)
  scale = Mul (x_scale, w_scale)
  sums32 = Add (products, bias)
  sums_real = Cast <to: int = 1> (sums32)
  sums = Mul (sums_real, scale)
"""
_Q_CLIP = """
  low_bound = Constant <value_float: float = @lower> ()
  high_bound = Constant <value_float: float = @upper> ()
  bounded = Clip ({}, low_bound, high_bound)
  Y = QuantizeLinear (bounded, y_scale, y_zero)
"""

_BODIES = {
    CONV: _WINDOW + _CONV + _CLIP.format("sums"),
    CONV_ADD: _WINDOW + _CONV + _ADD + _CLIP.format("total"),
    GEMM: _GEMM + _CLIP.format("sums"),
    Q_CONV: _WINDOW + _Q_CONV,
    Q_CONV_ADD: _WINDOW + _Q_CONV_ADD + _Q_CLIP.format("total"),
    Q_GEMM: _Q_GEMM + _Q_CLIP.format("sums"),
}
_MEANS = {
    CONV: "Conv with a hybrid sparse weight, then Clip(lower, upper).",
    CONV_ADD: "Conv with a hybrid sparse weight, plus Z_in, then Clip(lower, upper).",
    GEMM: "X times the transposed hybrid sparse weight, plus bias, then Clip(lower, upper).",
    Q_CONV: "Conv of bytes with a hybrid sparse int8 weight, then Clip(lower, upper) of the real result, as bytes.",
    Q_CONV_ADD: "Conv of bytes with a hybrid sparse int8 weight, plus Z_in, then Clip(lower, upper), as bytes.",
    Q_GEMM: "X times the transposed hybrid sparse int8 weight, plus bias, then Clip(lower, upper), as bytes.",
}


def operator_function(name: str, opset: int) -> onnx.FunctionProto:
    """The local function of a hybrid operator, its body at `opset` (13 or newer)."""
    operator = OPERATORS[name]
    inputs = ", ".join(slot.name for slot in operator.slots)
    text = (
        f'<opset_import: ["" : {opset}], domain: "{DOMAIN}">\n'
        f"{name} <{', '.join(operator.attributes)}> ({inputs}) => (Y) {{{_expansion(operator)}{_BODIES[name]}}}"
    )
    function = parser.parse_function(text)
    function.doc_string = (
        f"{_MEANS[name]} The weight is N:M sparse inside few blocks of side `block`; this body expands it."
    )
    return function


_POOL_WINDOW = {"kernel_shape": "ints", "strides": "ints", "pads": "ints"}
_BYTE_BODIES = {
    MAX_POOL: (("X",), _POOL_WINDOW, "Y = MaxPool <{given}> (X)", "MaxPool of bytes."),
    DEPTHWISE: (
        DEPTHWISE_SLOTS,
        {"group": "int", **_POOL_WINDOW, "dilations": "ints"},
        """
          zero = Constant <value_int: int = 0> ()
          w_zero = Cast <to: int = 3> (zero)
          Y = QLinearConv <{given}> (X, x_scale, x_zero, W, w_scale, w_zero, y_scale, y_zero, bias)
        """,
        "A depthwise convolution of bytes.",
    ),
    TABLE: (
        ("X", "table"),
        {},
        "places = Cast <to: int = 6> (X) Y = Gather <axis: int = 0> (table, places)",
        "Y[i] = table[X[i]].",
    ),
}


def byte_function(name: str, opset: int) -> onnx.FunctionProto:
    """The local function of an operator between hybrid layers, its body at `opset` (13 or newer)."""
    inputs, attributes, body, means = _BYTE_BODIES[name]
    given = ", ".join(f"{attribute}: {kind} = @{attribute}" for attribute, kind in attributes.items())
    declared = f"<{', '.join(attributes)}>" if attributes else ""
    function = parser.parse_function(
        f'<opset_import: ["" : {opset}], domain: "{DOMAIN}">\n'
        f"{name} {declared} ({', '.join(inputs)}) => (Y) {{{body.format(given=given)}}}"
    )
    function.doc_string = means
    return function


def _expansion(operator: Operator) -> str:
    """The text that makes the matrix A of the packed weight."""
    if operator.element == INT8:
        return _INT8_WEIGHTS + _EXPAND.format(
            kept_columns=_OF_LANES, weights="weights", perm=[0, 2, 4, 1, 3, 5], empty="Expand (nothing, empty_shape)"
        )
    return _EXPAND.format(
        kept_columns="Z = Slice (packed_shape, three, four)", weights="values", perm=[0, 2, 4, 1, 3],
        empty="ConstantOfShape (empty_shape)",
    )  # fmt: skip


def with_bodies(model: Model) -> Model:
    """The model with the local function of every operator of ours that stands in its graph and has none yet."""
    used = {node.op_type for node in model.proto.graph.node if node.domain == DOMAIN}
    used -= {function.name for function in model.proto.functions if function.domain == DOMAIN}
    bodies = [operator_function(name, model.opset) for name in OPERATORS if name in used]
    bodies += [byte_function(name, model.opset) for name in BYTE_OPERATORS if name in used]
    return model.with_functions(bodies, DOMAIN, VERSION)
