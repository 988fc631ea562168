"""Write a hybrid node in place of an ordinary one, and change one that is written."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.format.node.stated import HybridNode
from crisp_onnx.format.operators import BIAS, DOMAIN, OPERATORS, PACKED
from crisp_onnx.format.packing import HybridTensors


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


def set_bias(node: gs.Node, bias: gs.Constant) -> None:
    node.inputs[OPERATORS[node.op].place(BIAS)] = bias


def set_bounds(node: gs.Node, lower: float, upper: float) -> None:
    node.attrs["lower"], node.attrs["upper"] = float(lower), float(upper)


def add_residual(node: gs.Node, residual: gs.Tensor) -> None:
    """Let the node add `residual` to its product; it becomes the operator that does so."""
    node.op = OPERATORS[node.op].widened
    node.inputs.append(residual)
