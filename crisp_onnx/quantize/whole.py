"""Convolutions that keep all their weights in our int8 kernels, as hybrid ones of every block, where those are faster.

The first convolution of a network, with three channels of input, takes ONNX Runtime's int8 nearly twice as long.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.model import Model, Size, WeightLayer, tensor_shapes, weight_layers
from crisp_onnx.passes import EmitHybrid, run_passes
from crisp_onnx.passes.fuse_activation import FuseActivation
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.profit import profitable

WHOLE = Pattern(4, 4, 16, 8)
log = logging.getLogger(__name__)


def faster_whole(model: Model, *, size: Size) -> frozenset[str]:
    """The ordinary convolutions of `model`, in float32, that take less time on bytes in our kernels on this machine.

    Times are remembered on disk (see `profit.known_times`).
    """
    graph, found = model.graph(), set()
    layers = {layer.name: layer for layer in weight_layers(model)}
    shapes = tensor_shapes(model, size=size)
    for node in graph.nodes:
        layer = layers.get(node.name)
        if layer is None or not _packable(node, layer) or node.inputs[0].name not in shapes:
            continue
        try:
            verdict = profitable(_case(node, layer, shapes[node.inputs[0].name]))
        except CrispError as error:
            log.info("no convolution is timed in the int8 kernels: %s", error)
            return frozenset()
        log.info("%s on bytes, all weights kept: %s", node.name, verdict.reason)
        if verdict.sparse:
            found.add(node.name)
    return frozenset(found)


def pack_whole(model: Model, graph: gs.Graph, names: Collection[str]) -> None:
    """Make the named convolutions of `graph`, that of `model`, hybrid ones that keep every block, in float32."""
    layers = [layer for layer in weight_layers(model) if layer.name in names]
    plan = Plan(tuple(_all_of(layer) for layer in layers))
    if layers:
        run_passes((EmitHybrid(plan), FuseActivation()), graph)


def _packable(node: gs.Node, layer: WeightLayer) -> bool:
    plain = node.op == "Conv" and layer.groups == 1 and node.attrs.get("auto_pad", "NOTSET") == "NOTSET"
    weight = node.inputs[1]
    alone = isinstance(weight, gs.Constant) and weight.dtype == np.float32 and len(weight.outputs) == 1
    biases = [tensor for tensor in list(node.inputs)[2:] if not tensor.is_empty()]
    return plain and alone and len(weight.shape) == 4 and all(isinstance(bias, gs.Constant) for bias in biases)


def _case(node: gs.Node, layer: WeightLayer, shape: tuple[int, ...]) -> LayerCase:
    strides, dilations = (tuple(node.attrs.get(key, (1, 1))) for key in ("strides", "dilations"))
    pads = tuple(node.attrs.get("pads", (0, 0, 0, 0)))
    return LayerCase(
        layer.shape, shape, WHOLE, WHOLE.block_columns(layer.shape), strides, pads, dilations, element="int8"
    )


def _all_of(layer: WeightLayer) -> SparseLayer:
    rows, columns = WHOLE.block_rows(layer.shape), WHOLE.block_columns(layer.shape)
    kept = np.tile(np.arange(columns, dtype=np.int32), (rows, 1))
    return SparseLayer(layer, WHOLE, kept, np.ones(layer.shape, np.bool_))
