"""What a graph says, by its shapes, of the memory and the work that one run of it takes: nothing of it runs here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, prod

import onnx

from crisp_onnx.model.functions import inlined
from crisp_onnx.model.lists import longest_list
from crisp_onnx.model.shapes import Shapes, stated_shapes
from crisp_onnx.model.skeleton import nodes
from crisp_onnx.model.spec import DEFAULT_DOMAIN, DEFAULT_SIZE, Model, Size
from crisp_onnx.model.work import multiplications
from crisp_onnx.reading import shown

MAX_VALUES = 1 << 29
"""In all tensors of one run together; beyond, the run has a process of its own first."""
MAX_MULTIPLICATIONS = 1e12
TRIED_LIST, MAX_LIST = 1 << 16, 1 << 24
"""Values of one list that shape inference may follow: with no process of its own, and at all."""
FREE_BYTES, TIMES_STORED = 1 << 30, 64
"""What a file may take that no image accounts for: so much, and so many times what it stores."""
_VALUE_BYTES = 4
"""Of float32; what is stored in fewer becomes float32 here."""


@dataclass(frozen=True)
class Forecast:
    """`why`: a phrase that says what is much or not known ahead; empty where the run is known to be small.

    `excess`: how the run is certain to leave its limits, a phrase; empty where only trying it tells. `sized`: whether
    all tensors have known shapes. `unasked_bytes`: what the file may take that no image accounts for.
    """

    why: str = ""
    excess: str = ""
    sized: bool = True
    unasked_bytes: int = FREE_BYTES


def forecast(model: Model, memory_bytes: int, size: Size = DEFAULT_SIZE) -> Forecast:
    """Of one input of `size`, with all of its tensors kept, as later stages do; the run may take `memory_bytes`.

    Raises:
        CrispError: the model has no single input.
    """
    plain = inlined(model)
    listed, stored = plain.proto.graph.node, plain.proto.graph.initializer
    unasked = FREE_BYTES + TIMES_STORED * _stored_bytes(listed, stored)
    for node in nodes(plain.proto):
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return Forecast(f"{node.op_type} node {shown(node.name)!r} holds a graph", "", False, unasked)
    longest = longest_list(listed, stated_shapes(plain, size=size, carried=False))
    if longest > TRIED_LIST:
        known = longest < inf
        how = f"lists of {longest:.1e} values" if known else "lists whose length is not known ahead"
        too_long = "takes too much memory" if known and longest > MAX_LIST else ""
        return Forecast(f"its shapes are computed from {how}", too_long, False, unasked)
    shapes = stated_shapes(plain, size=size)
    values, ahead = _values(listed, {tensor.name for tensor in stored}, shapes)
    if _VALUE_BYTES * ahead > unasked:
        why = f"what it computes of its stored values alone holds {ahead:.1e} values"
        return Forecast(why, f"takes more than {unasked / 1e9:.1f} GB of memory")
    if _VALUE_BYTES * values > memory_bytes:
        why = f"its tensors hold {values:.1e} values"
        return Forecast(why, f"takes more than {memory_bytes / 1e9:.1f} GB of memory")
    unknown = _unknown(listed, shapes)
    if unknown:
        return Forecast(unknown, "", False, unasked)
    return Forecast(_much(listed, shapes, values), "", True, unasked)


def _stored_bytes(listed: Iterable[onnx.NodeProto], stored: Iterable[onnx.TensorProto]) -> int:
    """At least what the tensors take in the file."""
    held = [attribute.t for node in listed if node.op_type == "Constant" for attribute in node.attribute]
    return sum(prod(tensor.dims) * _least_bits(tensor) // 8 for tensor in (*stored, *held))


def _least_bits(tensor: onnx.TensorProto) -> int:
    return 32 if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32) else 4


def _values(listed: Iterable[onnx.NodeProto], known: set[str], shapes: Shapes) -> tuple[int, int]:
    """Elements of all results of known shape, and of those that depend on stored values alone, in the graph's order."""
    every = ahead = 0
    for node in listed:
        written = sum(prod(shapes[name]) for name in node.output if name in shapes)
        every += written
        if all(name in known for name in node.input if name):
            known.update(node.output)
            ahead += 0 if node.op_type == "Constant" else written
    return every, ahead


def _unknown(listed: Iterable[onnx.NodeProto], shapes: Shapes) -> str:
    """The first thing whose size or work the shapes do not tell, a phrase; empty where there is none."""
    for node in listed:
        name = next((name for name in (*node.output, *node.input) if name and name not in shapes), None)
        if name is not None:
            return f"the size of tensor {shown(name)!r} is not known before it is computed"
        if node.domain not in DEFAULT_DOMAIN or multiplications(node, shapes) == inf:
            return f"how much work {node.op_type} node {shown(node.name)!r} is cannot be told ahead"
    return ""


def _much(listed: Iterable[onnx.NodeProto], shapes: Shapes, values: int) -> str:
    """What is much of a run whose every tensor is known, a phrase; empty where nothing is."""
    work = sum(multiplications(node, shapes) for node in listed)
    if work > MAX_MULTIPLICATIONS:
        return f"it takes up to {work:.1e} multiplications"
    return f"its tensors hold {values:.1e} values" if values > MAX_VALUES else ""
