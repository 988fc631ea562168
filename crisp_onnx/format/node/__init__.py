"""One hybrid node, read and written: no other file knows its attributes, its slots or the names of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from crisp_onnx.errors import CrispError, Defect, VerificationFailed
from crisp_onnx.format.operators import (
    BIAS,
    DATA,
    DOMAIN,
    OPERATORS,
    PACKED,
    RESIDUAL,
    VALUES,
    WEIGHT_SCALE,
    X_GRID,
    Y_GRID,
    Z_GRID,
    Operator,
    in_int8,
)
from crisp_onnx.format.packing import HybridTensors, in_lanes, lane_width, out_of_lanes
from crisp_onnx.format.pattern import Pattern

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """How a convolution walks: strides and dilations (vertical, horizontal), pads (top, left, bottom, right)."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    def out_sides(self, sides: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the output, from those of the input and the kernel."""
        down, right = (
            (sides[axis] + self.pads[axis] + self.pads[axis + 2] - (kernel[axis] - 1) * self.dilations[axis] - 1)
            // self.strides[axis]
            + 1
            for axis in (0, 1)
        )
        return down, right

    @property
    def attributes(self) -> dict[str, list[int]]:
        return {"strides": list(self.strides), "pads": list(self.pads), "dilations": list(self.dilations)}


@dataclass(frozen=True)
class HybridNode:
    """What a hybrid node says, whether it was read or is to be written.

    `shape`: (Cout, Cin, kh, kw) of the weight. `window`: None for a matrix product. `lower`, `upper`: bounds of the
    result, infinite where there are none.
    """

    operator: Operator
    pattern: Pattern
    shape: Shape
    window: Window | None = None
    lower: float = -math.inf
    upper: float = math.inf

    @property
    def attributes(self) -> dict[str, Any]:
        """What the node carries in the file."""
        p = self.pattern
        whole = {"n": p.n, "m": p.m, "block": p.block, "vector_rows": p.vector_rows, "index_bits": p.index_bits}
        window = self.window.attributes if self.window else {}
        return {
            **whole, "weight_shape": list(self.shape), **window,
            "lower": float(self.lower), "upper": float(self.upper),
        }  # fmt: skip

    def proto(self, name: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
        """The node as the file holds it. `inputs`: names in the order of the operator's slots."""
        return helper.make_node(self.operator.name, inputs, [output], name=name, domain=DOMAIN, **self.attributes)


@dataclass(frozen=True)
class Grid:
    """Which real numbers the 256 bytes of a tensor stand for: (byte - zero) * scale."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Int8Weight:
    """A packed weight in int8. `scale`: (Cout,) float32; `bias`: (Cout,) int32, each at the data's scale times this."""

    tensors: HybridTensors
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]

    def obstacle(self, data: float, out: float, residual: float | None) -> str:
        """Why no kernel takes the weight between tensors of these scales; empty where they do."""
        shape = self.tensors.values.shape
        sums = np.abs(self.tensors.values.astype(np.int64)).sum(axis=(1, 3)).reshape(shape[0] * shape[2] * shape[4])
        if (255 * sums[: len(self.bias)] + np.abs(self.bias.astype(np.int64)) >= 2**31).any():
            return "a sum of its products may be over 31 bits"
        scales = [data, out, *([] if residual is None else [residual]), *self.scale.tolist()]
        largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).tiny
        if not all(smallest <= scale <= largest for scale in scales):
            return "a scale is not above zero"
        factors = [data * self.scale.astype(np.float64) / out, *([] if residual is None else [residual / out])]
        if any((np.asarray(factor) > largest).any() for factor in factors):
            return "a ratio of its scales is infinite"
        return ""


@dataclass(frozen=True)
class OnGrid:
    """A tensor of bytes, what they mean, and the stored scale and zero point that say so."""

    tensor: gs.Tensor
    grid: Grid
    stored: tuple[gs.Constant, gs.Constant]


@dataclass(frozen=True)
class Int8Names:
    """Names of an int8 node's stored tensors: of the packed weight (see `base_name`), of its scale and its bias."""

    base: str
    scale: str
    bias: str


def is_hybrid(node: gs.Node | onnx.NodeProto) -> bool:
    """Whether a node is a hybrid operator that this version knows."""
    op = node.op_type if isinstance(node, onnx.NodeProto) else node.op
    return node.domain == DOMAIN and op in OPERATORS


def read(node: gs.Node) -> HybridNode:
    """What a hybrid node says, checked; its weights are not loaded.

    Raises:
        VerificationFailed: an operator, attribute or tensor is unknown, missing or impossible; names the node.
    """
    if not is_hybrid(node):
        raise damaged(node, f"is no operator that this version of the format knows ({', '.join(OPERATORS)})")
    operator, attrs = OPERATORS[node.op], node.attrs
    try:
        pattern = Pattern(*(_number(attrs, key) for key in ("n", "m", "block", "vector_rows")))
        bits = _number(attrs, "index_bits")
        cout, cin, high, wide = _numbers(attrs, "weight_shape", 4)
        window = _window(attrs) if operator.product == "conv" else None
        lower, upper = (float(attrs[key]) for key in ("lower", "upper"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(node, f"lacks {error}") from error
    except CrispError as error:
        raise damaged(node, f"has an impossible pattern: {error}") from error
    shape = (cout, cin, high, wide)
    if bits != pattern.index_bits or min(shape) < 1:
        raise damaged(node, f"states {bits} index bits and weight shape {shape}, impossible with pattern {pattern}")
    if operator.product == "gemm" and (high, wide) != (1, 1):
        raise damaged(node, f"states weight shape {shape}, but a matrix product has no window")
    if window and (min(window.strides + window.dilations) < 1 or min(window.pads) < 0):
        raise damaged(node, f"states an impossible window: {window.attributes}")
    found = HybridNode(operator, pattern, shape, window, lower, upper)
    _check_slots(node, found)
    return found


def kept_blocks_of(node: gs.Node) -> int:
    """S: blocks that every block row of the weight keeps."""
    return int(_at(node, VALUES).shape[1])


def tensors_of(node: gs.Node) -> HybridTensors:
    """The packed weight of a node that `read` accepts."""
    values, indices, blocks = (np.asarray(_at(node, slot).values) for slot in PACKED)
    return HybridTensors(out_of_lanes(values) if is_int8(node) else values, indices, blocks)


def value_bytes_of(node: gs.Node) -> int:
    """Bytes of one stored weight."""
    operator = OPERATORS[node.op]
    return int(np.dtype(operator.slots[operator.place(VALUES) or 0].dtype).itemsize)


def is_int8(node: gs.Node) -> bool:
    """Whether a hybrid node computes on bytes."""
    return OPERATORS[node.op].place(WEIGHT_SCALE) is not None


def int8_weight_of(node: gs.Node) -> Int8Weight:
    """The weight of an int8 node that `read` accepts."""
    scale, bias = np.asarray(_at(node, WEIGHT_SCALE).values), np.asarray(bias_of(node).values)
    return Int8Weight(tensors_of(node), scale, bias)


def grids_of(node: gs.Node) -> tuple[Grid, Grid, Grid | None]:
    """What the bytes of data, output and residual of an int8 node mean; None where there is no residual."""
    data, out = _grid(node, X_GRID), _grid(node, Y_GRID)
    return data, out, _grid(node, Z_GRID) if residual_of(node) is not None else None


def weight_name(node: gs.Node) -> str:
    """The name that the weight has where it is dense."""
    name: str = _at(node, VALUES).name
    return name.removesuffix(f".{VALUES}")


def packed_names(node: gs.Node) -> frozenset[str]:
    """Names of the tensors that hold the weight, its bias not among them."""
    return frozenset(_at(node, slot).name for slot in PACKED)


def data_of(node: gs.Node) -> gs.Tensor:
    return _at(node, DATA)


def bias_of(node: gs.Node) -> gs.Constant:
    """The stored bias, (Cout,)."""
    return _at(node, BIAS)


def residual_of(node: gs.Node) -> gs.Tensor | None:
    """What is added to the product, or None."""
    return _at(node, RESIDUAL) if OPERATORS[node.op].place(RESIDUAL) is not None else None


def activations_of(node: gs.Node) -> list[gs.Tensor]:
    """The inputs that are not stored: the data and, where there is one, the residual."""
    return [tensor for slot, tensor in zip(OPERATORS[node.op].slots, node.inputs, strict=True) if not slot.stored]


def base_name(taken: set[str], weight: str) -> str:
    """`weight`, or the first of `weight_1`, ... after which no packed tensor in `taken` is named; takes those names."""
    base, number = weight, 0
    while any(f"{base}.{slot}" in taken for slot in PACKED) or (number and base in taken):
        number += 1
        base = f"{weight}_{number}"
    taken.update(f"{base}.{slot}" for slot in PACKED)
    return base


def packed(base: str, tensors: HybridTensors) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a weight by their names in the file, in the order of the slots. `base`: see `base_name`."""
    return {f"{base}.{slot}": getattr(tensors, slot) for slot in PACKED}


def bias_name(base: str) -> str:
    return f"{base}.{BIAS}"


def rewrite(node: gs.Node, hybrid: HybridNode, base: str, tensors: HybridTensors, bias: gs.Constant) -> None:
    """Turn an ordinary node into a hybrid one, in place; its name, its data and its outputs stay."""
    stored = [gs.Constant(name, values) for name, values in packed(base, tensors).items()]
    node.inputs = [node.inputs[0], *stored, bias]
    node.op, node.domain, node.attrs = hybrid.operator.name, DOMAIN, hybrid.attributes


def quantise(
    node: gs.Node,
    weight: Int8Weight,
    data: OnGrid,
    out: OnGrid,
    residual: OnGrid | None,
    *,
    names: Int8Names,
) -> None:
    """Turn a float node into the one that computes on bytes, in place; its name, pattern and bounds stay.

    `residual`: where the node adds one.

    Raises:
        Defect: the sums of the weight do not fit 31 bits, or a ratio of scales is no float32: no kernel takes that.
    """
    scales = (data.grid.scale, out.grid.scale, residual.grid.scale if residual is not None else None)
    obstacle = weight.obstacle(*scales)
    if obstacle:
        raise Defect(f"{node.op} {node.name!r} cannot be written in int8: {obstacle}.")
    tensors = HybridTensors(in_lanes(weight.tensors.values), weight.tensors.indices, weight.tensors.blocks)
    stored = [gs.Constant(name, values) for name, values in packed(names.base, tensors).items()]
    scale, bias = gs.Constant(names.scale, weight.scale), gs.Constant(names.bias, weight.bias)
    node.inputs = [data.tensor, *data.stored, *stored, scale, bias, *out.stored]
    if residual is not None:
        node.inputs += [residual.tensor, *residual.stored]
    node.outputs = [out.tensor]
    node.op = in_int8(OPERATORS[node.op]).name


def set_bias(node: gs.Node, bias: gs.Constant) -> None:
    node.inputs[OPERATORS[node.op].place(BIAS)] = bias


def set_bounds(node: gs.Node, lower: float, upper: float) -> None:
    node.attrs["lower"], node.attrs["upper"] = float(lower), float(upper)


def add_residual(node: gs.Node, residual: gs.Tensor) -> None:
    """Let the node add `residual` to its product; it becomes the operator that does so."""
    node.op = OPERATORS[node.op].widened
    node.inputs.append(residual)


def damaged(node: gs.Node, what: str) -> VerificationFailed:
    """The error for a node that cannot be as it is. `what` follows the node's name."""
    return VerificationFailed(f"{node.op} {node.name!r} {what}; the file is damaged.")


def _grid(node: gs.Node, slots: tuple[str, str]) -> Grid:
    scale, zero = (_at(node, slot).values.item() for slot in slots)
    return Grid(float(scale), int(zero))


def _at(node: gs.Node, slot: str) -> Any:
    return node.inputs[OPERATORS[node.op].place(slot)]


def _window(attrs: Mapping[str, Any]) -> Window:
    strides, dilations = (_numbers(attrs, key, 2) for key in ("strides", "dilations"))
    pads = _numbers(attrs, "pads", 4)
    return Window((strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3]), (dilations[0], dilations[1]))


def _number(attrs: Mapping[str, Any], key: str) -> int:
    value = attrs[key]
    if not isinstance(value, int):
        raise ValueError(f"a whole number in {key!r}")
    return value


def _numbers(attrs: Mapping[str, Any], key: str, count: int) -> tuple[int, ...]:
    numbers = tuple(attrs[key])
    if len(numbers) != count or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{count} whole numbers in {key!r}")
    return numbers


def _type_of(tensor: gs.Tensor) -> str:
    """The element type as NumPy names it, or the number of one that ONNX alone knows."""
    try:
        return str(np.dtype(tensor.dtype))
    except TypeError:
        return f"number {tensor.dtype}"


def _check_slots(node: gs.Node, found: HybridNode) -> None:
    """Every input in place, of its type; the packed ones of the shapes that the pattern gives."""
    slots, pattern, shape = found.operator.slots, found.pattern, found.shape
    if len(node.inputs) != len(slots) or len(node.outputs) != 1:
        raise damaged(node, f"has {len(node.inputs)} inputs and {len(node.outputs)} outputs, not {len(slots)} and 1")
    for slot, tensor in zip(slots, node.inputs, strict=True):
        if slot.stored and not isinstance(tensor, gs.Constant):
            raise damaged(node, f"lacks its {slot.name}: {tensor.name!r} is not stored in the file")
        if slot.stored and _type_of(tensor) != slot.dtype:
            raise damaged(node, f"has {slot.name} of type {_type_of(tensor)}, not {slot.dtype}")
    blocks = tuple(_at(node, PACKED[2]).shape)
    rows, kept = pattern.block_rows(shape), blocks[-1] if len(blocks) == 2 else 0
    if not 1 <= kept <= pattern.block_columns(shape):
        raise damaged(
            node,
            f"has blocks {blocks}: every block row keeps at least one block, and at most all",
        )
    index_bytes = -(-pattern.kept_columns * pattern.index_bits // 8)
    Z, V = pattern.kept_columns, pattern.vector_rows
    width = lane_width(Z)
    wanted: dict[str, tuple[int, ...]] = {
        "values": (rows, kept, pattern.row_groups, *((Z // width, V, width) if is_int8(node) else (Z, V))),
        "indices": (rows, kept, pattern.row_groups, index_bytes),
        "blocks": (rows, kept),
        "bias": (shape[0],),
        **{slot.name: () for slot in slots if slot.single},
        **{slot.name: (shape[0],) for slot in slots if slot.name == WEIGHT_SCALE},
    }
    for slot_name, dims in wanted.items():
        if tuple(_at(node, slot_name).shape) != dims:
            raise damaged(node, f"has {slot_name} of shape {tuple(_at(node, slot_name).shape)}, not {dims}")
