"""Read what a hybrid node says, and check that it can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError, VerificationFailed
from crisp_onnx.format.node.parts import at, is_hybrid, is_int8
from crisp_onnx.format.node.stated import HybridNode, Window
from crisp_onnx.format.operators import OPERATORS, PACKED, WEIGHT_SCALE
from crisp_onnx.format.packing import lane_width
from crisp_onnx.format.pattern import Pattern


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


def damaged(node: gs.Node, what: str) -> VerificationFailed:
    """The error for a node that cannot be as it is. `what` follows the node's name."""
    return VerificationFailed(f"{node.op} {node.name!r} {what}; the file is damaged.")


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
    blocks = tuple(at(node, PACKED[2]).shape)
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
        if tuple(at(node, slot_name).shape) != dims:
            raise damaged(node, f"has {slot_name} of shape {tuple(at(node, slot_name).shape)}, not {dims}")
