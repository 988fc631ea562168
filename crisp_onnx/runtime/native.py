"""Whether a model may run with the native kernels: the library takes every node of an operator it knows, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from crisp_onnx.errors import CrispError
from crisp_onnx.format import DOMAIN, INT8, OPERATORS
from crisp_onnx.format.node import is_hybrid
from crisp_onnx.format.operators import BYTE_OPERATORS
from crisp_onnx.model.read import read_graph
from crisp_onnx.runtime.library import ELEMENTS, Element, Library, registered_operators

LARGEST_BLOCK = 256  # a place inside a block is one byte in the kernels


@dataclass(frozen=True)
class Scan:
    """What a file holds: hybrid nodes, and why no kernels can take them (a sentence; empty when they can).

    `operators`: those of our domain that it uses, hybrid, on bytes between hybrid ones, or unknown to this version.
    """

    hybrid_nodes: int
    reason: str
    operators: frozenset[str] = frozenset()

    @property
    def elements(self) -> tuple[Element, ...]:
        """What its operators compute on, float32 first."""
        in_bytes = {OPERATORS[name].element == INT8 for name in self.operators if name in OPERATORS}
        in_bytes |= {True for name in self.operators if name in BYTE_OPERATORS}
        return tuple(element for element in ELEMENTS if (element == "int8") in in_bytes)

    def against(self, library: Library) -> str:
        """Why the kernels of `library` cannot take the nodes of our domain, a sentence; empty when they can."""
        unknown = sorted(self.operators.difference(registered_operators())) if library.path else []
        if unknown:
            return f"The native kernels at {library.path} have none for {', '.join(unknown)}: build them anew."
        return self.reason or library.reason


def scan(path: Path) -> Scan:
    """Look at the operators and types of a model, not at its weights.

    Raises:
        CrispError: the file is missing or cannot be read as ONNX.
    """
    return scan_model(read_graph(path))


def parse_graph(model: bytes) -> onnx.ModelProto:
    """A model in memory.

    Raises:
        CrispError: the bytes are no ONNX model.
    """
    try:
        return onnx.load_model_from_string(model)
    except Exception as error:  # protobuf raises a type of its own for every kind of damage
        raise CrispError(f"These bytes are not an ONNX model: {str(error).splitlines()[0]}") from error


def scan_model(model: onnx.ModelProto) -> Scan:
    """`scan` of a model in memory."""
    ours = [node for node in _nodes(model.graph) if node.domain == DOMAIN]
    nodes = [node for node in ours if is_hybrid(node)]
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    stored = frozenset(types) - {value.name for value in model.graph.input}  # as an input it could change
    types |= {
        info.name: info.type.tensor_type.elem_type
        for info in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }
    reason = next((reason for node in nodes if (reason := _against_node(node, types, stored))), "")
    return Scan(len(nodes), reason, frozenset(node.op_type for node in ours))


def _against_node(node: onnx.NodeProto, types: dict[str, int], stored: frozenset[str]) -> str:
    operator = OPERATORS[node.op_type]
    for index, (slot, name) in enumerate(zip(operator.slots, node.input, strict=False)):
        found = types.get(name, 0) if name else 0
        if found and found != _element(slot.dtype):
            return f"Node {node.name}: input {index} is {_text(found)}, for which there is no kernel."
        if slot.stored and name and name not in stored:
            return f"Node {node.name}: input {index} is not fixed in the file, as the kernels need it."
    output = types.get(node.output[0], 0) if node.output else 0
    if output and output != _element(operator.element):
        return f"Node {node.name}: its output is {_text(output)}, the kernels give {operator.element}."
    block = next((attribute.i for attribute in node.attribute if attribute.name == "block"), 0)
    if block > LARGEST_BLOCK:
        return f"Node {node.name}: block {block} is over {LARGEST_BLOCK}, the largest that the kernels take."
    return ""


def _element(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _text(element: int) -> str:
    return str(TensorProto.DataType.Name(element)).lower()


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
            for inner in attribute.graphs:
                yield from _nodes(inner)
