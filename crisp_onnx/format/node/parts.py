"""The inputs of a hybrid node that `read` accepts, by what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from crisp_onnx.format.operators import (
    BIAS,
    BYTE_OPERATORS,
    DATA,
    DOMAIN,
    INT8,
    OPERATORS,
    PACKED,
    RESIDUAL,
    VALUES,
    WEIGHT_SCALE,
)
from crisp_onnx.format.packing import HybridTensors, out_of_lanes


def is_hybrid(node: gs.Node | onnx.NodeProto) -> bool:
    """Whether a node is a hybrid operator that this version knows."""
    return node.domain == DOMAIN and _op(node) in OPERATORS


def is_on_bytes(node: gs.Node | onnx.NodeProto) -> bool:
    """Whether a node is an operator of ours on bytes, hybrid or not, that this version knows."""
    hybrid = is_hybrid(node) and OPERATORS[_op(node)].element == INT8
    return hybrid or (node.domain == DOMAIN and _op(node) in BYTE_OPERATORS)


def _op(node: gs.Node | onnx.NodeProto) -> str:
    return str(node.op_type if isinstance(node, onnx.NodeProto) else node.op)


def kept_blocks_of(node: gs.Node) -> int:
    """S: blocks that every block row of the weight keeps."""
    return int(at(node, VALUES).shape[1])


def tensors_of(node: gs.Node) -> HybridTensors:
    """The packed weight of a node that `read` accepts."""
    values, indices, blocks = (np.asarray(at(node, slot).values) for slot in PACKED)
    return HybridTensors(out_of_lanes(values) if is_int8(node) else values, indices, blocks)


def value_bytes_of(node: gs.Node) -> int:
    """Bytes of one stored weight."""
    operator = OPERATORS[node.op]
    return int(np.dtype(operator.slots[operator.place(VALUES) or 0].dtype).itemsize)


def is_int8(node: gs.Node) -> bool:
    """Whether a hybrid node computes on bytes."""
    return OPERATORS[node.op].place(WEIGHT_SCALE) is not None


def weight_name(node: gs.Node) -> str:
    """The name that the weight has where it is dense."""
    name: str = at(node, VALUES).name
    return name.removesuffix(f".{VALUES}")


def packed_names(node: gs.Node) -> frozenset[str]:
    """Names of the tensors that hold the weight, its bias not among them."""
    return frozenset(at(node, slot).name for slot in PACKED)


def data_of(node: gs.Node) -> gs.Tensor:
    return at(node, DATA)


def bias_of(node: gs.Node) -> gs.Constant:
    """The stored bias, (Cout,)."""
    return at(node, BIAS)


def residual_of(node: gs.Node) -> gs.Tensor | None:
    """What is added to the product, or None."""
    return at(node, RESIDUAL) if OPERATORS[node.op].place(RESIDUAL) is not None else None


def activations_of(node: gs.Node) -> list[gs.Tensor]:
    """The inputs that are not stored: the data and, where there is one, the residual."""
    return [tensor for slot, tensor in zip(OPERATORS[node.op].slots, node.inputs, strict=True) if not slot.stored]


def at(node: gs.Node, slot: str) -> Any:
    """The input in a slot that the node's operator has."""
    return node.inputs[OPERATORS[node.op].place(slot)]
