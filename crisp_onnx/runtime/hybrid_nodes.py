"""The hybrid layers of a file as cases to measure: attributes, blocks kept, and the shape of what flows in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError
from crisp_onnx.format.node import HybridNode as Stored
from crisp_onnx.format.node import data_of, is_hybrid, is_int8, kept_blocks_of, read
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, tensor_shapes
from crisp_onnx.model.read import read_graph
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.library import Element


@dataclass(frozen=True)
class HybridNode:
    """A node's name, its case, and its output positions (height times width; rows of a Gemm)."""

    name: str
    case: LayerCase
    positions: int


def hybrid_nodes(path: Path, *, batch: int = 1, size: Size = DEFAULT_SIZE) -> tuple[HybridNode, ...]:
    """Every hybrid layer in the order of the graph. An open batch counts as `batch`, open image sides as those of
    `size`.

    Raises:
        CrispError: the shape of a layer's input cannot be inferred.
        VerificationFailed: a hybrid node is damaged.
    """
    proto = read_graph(path)
    shapes = tensor_shapes(Model(proto, path, ""), batch=batch, size=size)
    return nodes_of(gs.import_onnx(proto), shapes, where=str(path))


def nodes_of(graph: gs.Graph, shapes: Mapping[str, tuple[int, ...]], *, where: str) -> tuple[HybridNode, ...]:
    """Every hybrid layer of `graph`, in order. `shapes` by tensor name; `where` names the model in errors.

    Raises:
        CrispError: the shape of a layer's input is not among `shapes`.
        VerificationFailed: a hybrid node is damaged.
    """
    found = []
    for node in graph.nodes:
        if not is_hybrid(node):
            continue
        stored = read(node)
        shape = shapes.get(data_of(node).name, ())
        if not shape or 0 in shape:
            raise CrispError(
                f"The input shape of node {node.name} in {where} is not known, so its layers cannot be timed."
            )
        element: Element = "int8" if is_int8(node) else "float32"
        case = replace(_case(stored, shape, kept_blocks_of(node)), element=element)
        found.append(HybridNode(node.name, case, _positions(stored, case)))
    return tuple(found)


def _case(node: Stored, shape: tuple[int, ...], kept: int) -> LayerCase:
    if node.window is None:
        return LayerCase(node.shape, (prod(shape[:-1]), shape[-1]), node.pattern, kept)
    window = node.window
    return LayerCase(node.shape, shape, node.pattern, kept, window.strides, window.pads, window.dilations)


def _positions(node: Stored, case: LayerCase) -> int:
    if node.window is None:
        return case.input_shape[0]
    return prod(node.window.out_sides((case.input_shape[2], case.input_shape[3]), node.shape[2:]))
