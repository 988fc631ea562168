"""Let hybrid operators compute on bytes: int8 weights, and tensors that QuantizeLinear and DequantizeLinear cross."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format.int8_weight import int8_weight
from crisp_onnx.format.node import (
    Grid,
    Int8Names,
    OnGrid,
    bias_of,
    data_of,
    is_hybrid,
    is_int8,
    no_grid,
    quantise,
    read,
    residual_of,
    tensors_of,
    weight_name,
)
from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import Declined, PassResult, constant

BYTES = ".bytes"


class QuantiseHybrid:
    """Every hybrid node named in `layers` becomes its int8 form.

    `grids`: what the bytes of each tensor mean. A tensor that is bytes already keeps its meaning.
    """

    name = "quantise_hybrid"

    def __init__(self, layers: Collection[str], grids: Mapping[str, Grid]) -> None:
        self.layers, self.grids = frozenset(layers), grids

    def run(self, graph: gs.Graph) -> PassResult:
        crossing = _Crossing(graph, self.grids)
        changed, declined = 0, []
        for node in [node for node in graph.nodes if is_hybrid(node) and node.name in self.layers]:
            if is_int8(node):
                continue
            obstacle = self._quantised(node, crossing)
            if obstacle:
                declined.append(Declined(self.name, node.name, obstacle))
            else:
                changed += 1
        return PassResult(changed, tuple(declined))

    def _quantised(self, node: gs.Node, crossing: _Crossing) -> str:
        """Rewrite the node, or say why it stays."""
        tensors = [data_of(node), residual_of(node), node.outputs[0]]
        unknown = [tensor.name for tensor in tensors if tensor is not None and not crossing.knows(tensor)]
        if unknown:
            return no_grid(unknown[0])
        residual_in, out = residual_of(node), node.outputs[0]
        data_scale = crossing.grid_of(data_of(node)).scale
        weight = int8_weight(tensors_of(node), bias_of(node).values, data_scale, read(node).shape[0])
        residual_scale = None if residual_in is None else crossing.grid_of(residual_in).scale
        obstacle = weight.obstacle(data_scale, self.grids[out.name].scale, residual_scale)
        if obstacle:
            return obstacle
        data = crossing.into_bytes(data_of(node))
        residual = None if residual_in is None else crossing.into_bytes(residual_in)
        base, taken = weight_name(node), crossing.taken
        names = Int8Names(base, fresh_name(taken, f"{base}.w_scale"), fresh_name(taken, f"{base}.bias_int32"))
        quantise(node, weight, data, crossing.out_of_bytes(out), residual, names=names)
        return ""


class _Crossing:
    """Where tensors become bytes and real numbers again, each once."""

    def __init__(self, graph: gs.Graph, grids: Mapping[str, Grid]) -> None:
        self.graph, self.grids = graph, grids
        self.taken = used_names(graph)
        self._bytes: dict[str, OnGrid] = {}

    def knows(self, tensor: gs.Tensor) -> bool:
        return tensor.name in self.grids or dequantised(tensor) is not None

    def grid_of(self, tensor: gs.Tensor) -> Grid:
        found = dequantised(tensor)
        return found.grid if found is not None else self.grids[tensor.name]

    def into_bytes(self, tensor: gs.Tensor) -> OnGrid:
        """The tensor as bytes: those it is made of, or of a QuantizeLinear."""
        found = dequantised(tensor) or self._bytes.get(tensor.name)
        if found is None:
            found = self._on_grid(tensor)
            name = fresh_name(self.taken, f"{tensor.name}.quantize")
            self.graph.nodes.append(gs.Node("QuantizeLinear", name, {}, [tensor, *found.stored], [found.tensor]))
            self._bytes[tensor.name] = found
        return found

    def out_of_bytes(self, tensor: gs.Tensor) -> OnGrid:
        """Bytes of which a DequantizeLinear makes the tensor, instead of the node that wrote it."""
        found = self._on_grid(tensor)
        tensor.inputs.clear()
        name = fresh_name(self.taken, f"{tensor.name}.dequantize")
        self.graph.nodes.append(gs.Node("DequantizeLinear", name, {}, [found.tensor, *found.stored], [tensor]))
        return found

    def _on_grid(self, tensor: gs.Tensor) -> OnGrid:
        grid = self.grids[tensor.name]
        scale = gs.Constant(fresh_name(self.taken, f"{tensor.name}.scale"), np.array(grid.scale, np.float32))
        zero = gs.Constant(fresh_name(self.taken, f"{tensor.name}.zero"), np.array(grid.zero, np.uint8))
        of_bytes = gs.Variable(fresh_name(self.taken, f"{tensor.name}{BYTES}"), np.uint8, tensor.shape)
        return OnGrid(of_bytes, grid, (scale, zero))


def dequantised(tensor: gs.Tensor) -> OnGrid | None:
    """The bytes that a DequantizeLinear makes the tensor of; None where it is made otherwise, or of other types."""
    if constant(tensor) or len(tensor.inputs) != 1 or tensor.inputs[0].op != "DequantizeLinear":
        return None
    return crossed(tensor.inputs[0], tensor.inputs[0].inputs[0])


def crossed(node: gs.Node, of_bytes: gs.Tensor) -> OnGrid | None:
    """The bytes of a QuantizeLinear or DequantizeLinear with one stored scale and a uint8 zero point, else None."""
    if len(node.inputs) != 3 or not all(constant(tensor) for tensor in list(node.inputs)[1:]) or constant(of_bytes):
        return None
    scale, zero = (tensor.values for tensor in list(node.inputs)[1:])
    if scale.ndim or zero.ndim or zero.dtype != np.uint8:
        return None
    return OnGrid(of_bytes, Grid(float(scale), int(zero)), (node.inputs[1], node.inputs[2]))
