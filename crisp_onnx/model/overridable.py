"""Stored values that a caller may override: initializers that are inputs of the graph as well, from IR version 4 on.

They belong to the interface: nothing is folded into them, nothing of theirs is pruned or trained, and the result has
the same inputs. Two cases are no interface. Up to IR version 3 every initializer had to be an input, and ONNX Runtime
lets nobody override one. Exporters kept that habit for a while; where all initializers of a file are inputs, it tells
nothing from anything, and they are fixed at their stored values, which is said.
"""

from __future__ import annotations

import onnx

FIRST_IR_WITH_OVERRIDES = 4


def overridable(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The stored default by input name; empty where the inputs of initializers are only a habit."""
    if proto.ir_version < FIRST_IR_WITH_OVERRIDES:
        return {}
    inputs = {value.name for value in proto.graph.input}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = {name: tensor for name, tensor in stored.items() if name in inputs}
    return {} if len(found) == len(stored) else found


def note_on_overrides(proto: onnx.ModelProto) -> str:
    """What the user should know of such inputs, a sentence; empty where there are none."""
    kept = overridable(proto)
    if kept:
        names = ", ".join(map(repr, list(kept)[:3])) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
        return (
            f"Inputs with a stored value that a caller may override stay as they are: {names}. "
            "What reads them is not pruned; take them out of the graph's inputs if nobody overrides them."
        )
    inputs = {value.name for value in proto.graph.input}
    habit = [tensor for tensor in proto.graph.initializer if tensor.name in inputs]
    if not habit or proto.ir_version < FIRST_IR_WITH_OVERRIDES:
        return ""
    return (
        f"All {len(habit)} stored tensors of the file are inputs of its graph as well, as old exporters wrote them. "
        "They are fixed at their stored values; the result has the other inputs alone."
    )
