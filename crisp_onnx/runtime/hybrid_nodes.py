"""The hybrid layers of a file as cases to measure: attributes, blocks kept, and the shape of what flows in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from crisp_onnx.errors import CrispError
from crisp_onnx.format import DOMAIN, GEMM, HYBRID_OPS
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, tensor_shapes
from crisp_onnx.runtime.layer_case import LayerCase


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
    """
    model = onnx.load(str(path), load_external_data=False)
    return nodes_of(model.graph, tensor_shapes(Model(model, path, ""), batch=batch, size=size), where=str(path))


def nodes_of(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], *, where: str) -> tuple[HybridNode, ...]:
    """Every hybrid layer of `graph`, in order. `shapes` by tensor name; `where` names the model in errors.

    Raises:
        CrispError: the shape of a layer's input is not among `shapes`.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.domain != DOMAIN or node.op_type not in HYBRID_OPS:
            continue
        shape = shapes.get(node.input[0], ())
        if not shape or 0 in shape:
            raise CrispError(
                f"The input shape of node {node.name} in {where} is not known, so its layers cannot be timed."
            )
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        case = _case(node, attributes, shape, kept=weights[node.input[3]][1])
        found.append(HybridNode(node.name, case, _positions(case)))
    return tuple(found)


def _case(node: onnx.NodeProto, attributes: dict[str, Any], shape: tuple[int, ...], *, kept: int) -> LayerCase:
    pattern = Pattern(attributes["n"], attributes["m"], attributes["block"], attributes["vector_rows"])
    weight_shape = tuple(attributes["weight_shape"])
    if node.op_type == GEMM:
        rows = 1
        for extent in shape[:-1]:
            rows *= extent
        return LayerCase(weight_shape, (rows, shape[-1]), pattern, kept)
    window = {name: tuple(attributes[name]) for name in ("strides", "pads", "dilations")}
    return LayerCase(weight_shape, shape, pattern, kept, **window)


def _positions(case: LayerCase) -> int:
    if len(case.input_shape) == 2:
        return case.input_shape[0]
    sides = []
    for axis in (0, 1):
        reach = (case.weight_shape[2 + axis] - 1) * case.dilations[axis] + 1
        room = case.input_shape[2 + axis] + case.pads[axis] + case.pads[axis + 2] - reach
        sides.append(room // case.strides[axis] + 1)
    return sides[0] * sides[1]
