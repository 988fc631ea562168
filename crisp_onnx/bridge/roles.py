"""Decide what each constant is: a parameter, a BatchNorm statistic, a number on the host, or a fixed tensor."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.bridge.handlers import OPERATORS
from crisp_onnx.bridge.prepare import BN_STATISTICS
from crisp_onnx.bridge.value import HOST_SIZE

Role: TypeAlias = Literal["parameter", "statistic", "host", "fixed"]

_EVERY = tuple(range(64))
# Slots whose constants a model learns, whatever their size.
_LAYER_SLOTS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
}
# Slots whose constants are learned if they hold more than one number; a single one is part of a formula.
_TENSOR_SLOTS: dict[str, tuple[int, ...]] = {
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "Div": (0, 1),
    "Sum": _EVERY,
    "Mean": _EVERY,
    "Einsum": _EVERY,
    "Concat": _EVERY,
    "Expand": (0,),
    "Tile": (0,),
    "Gather": (0,),
}


def constant_roles(graph: gs.Graph) -> dict[str, Role]:
    """The role of every constant that a node reads, by name, in the order of first use."""
    uses: dict[str, list[tuple[str, int]]] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for node in graph.nodes:
        for slot, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant):
                uses.setdefault(tensor.name, []).append((node.op, slot))
                arrays[tensor.name] = tensor.values
    for tensor in graph.outputs:
        if isinstance(tensor, gs.Constant):
            uses.setdefault(tensor.name, [])
            arrays[tensor.name] = tensor.values
    return {name: _role(arrays[name], slots) for name, slots in uses.items()}


def _role(array: npt.NDArray[Any], uses: list[tuple[str, int]]) -> Role:
    if any(op == "BatchNormalization" and slot in BN_STATISTICS for op, slot in uses):
        return "statistic"
    floating = array.dtype.name in ("float16", "float32", "float64", "bfloat16")
    if floating and any(_learned(array, op, slot) for op, slot in uses):
        return "parameter"
    if array.ndim > 1 or array.size > HOST_SIZE:
        return "fixed"
    only_numbers = all(slot in OPERATORS[op].host for op, slot in uses)
    return "host" if not floating or array.size == 1 or only_numbers else "fixed"


def _learned(array: npt.NDArray[Any], op: str, slot: int) -> bool:
    if slot in _LAYER_SLOTS.get(op, ()):
        return True
    # Infinities mark positions that attention must not see.
    return slot in _TENSOR_SLOTS.get(op, ()) and array.size > 1 and bool(np.isfinite(array.astype(np.float32)).all())
