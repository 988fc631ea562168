"""Convolutions that keep all their weights: in our int8 kernels, as hybrid ones of every block, or in float32.

The first convolution of a network, with three channels of input, takes ONNX Runtime's int8 nearly twice as long, and
some are faster in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.model import Model, Size, WeightLayer, tensor_shapes, weight_layers
from crisp_onnx.passes import EmitHybrid, run_passes
from crisp_onnx.passes.fuse_activation import FuseActivation
from crisp_onnx.runtime.first_layer import measure_first_layer
from crisp_onnx.runtime.layer_case import LayerCase
from crisp_onnx.runtime.profit import profitable, recalled

WHOLE = Pattern(4, 4, 16, 8)
log = logging.getLogger(__name__)


def faster_whole(model: Model, *, size: Size) -> frozenset[str]:
    """The ordinary convolutions of `model`, in float32, that take less time on bytes in our kernels on this machine.

    Times are remembered on disk (see `profit.known_times`).
    """
    found = set()
    for node, case in _ordinary(model, size):
        try:
            verdict = profitable(case)
        except CrispError as error:
            log.info("no convolution is timed in the int8 kernels: %s", error)
            return frozenset()
        log.info("%s on bytes, all weights kept: %s", node.name, verdict.reason)
        if verdict.sparse:
            found.add(node.name)
    return frozenset(found)


def first_in_float32(model: Model, whole: Collection[str], *, size: Size) -> dict[str, str]:
    """The ordinary convolutions of `model` that read its input and are not slower in float32, and why, by node name.

    In int8 the image is quantised before them, in float32 what they make of it behind them. `whole`: see
    `faster_whole`. Times are remembered on disk.
    """
    found = {}
    inputs = {tensor.name for tensor in model.graph().inputs}
    for node, case in _ordinary(model, size):
        if node.inputs[0].name not in inputs:
            continue
        ours = node.name in whole
        key = f"{case.key}, first{', packed' if ours else ''}, 1 threads"
        times = recalled(key, partial(measure_first_layer, case, ours=ours))
        if times.dense_ms <= times.hybrid_ms:
            found[node.name] = f"timed alone: {times.dense_ms:.3f} ms in float32, {times.hybrid_ms:.3f} ms in int8"
    return found


def pack_whole(model: Model, graph: gs.Graph, names: Collection[str]) -> None:
    """Make the named convolutions of `graph`, that of `model`, hybrid ones that keep every block, in float32."""
    layers = [layer for layer in weight_layers(model) if layer.name in names]
    plan = Plan(tuple(_all_of(layer) for layer in layers))
    if layers:
        run_passes((EmitHybrid(plan), FuseActivation()), graph)


def _ordinary(model: Model, size: Size) -> Iterator[tuple[gs.Node, LayerCase]]:
    """The convolutions that our kernels could compute with all weights kept, and what decides their time in int8."""
    layers = {layer.name: layer for layer in weight_layers(model)}
    shapes = tensor_shapes(model, size=size)
    for node in model.graph().nodes:
        layer = layers.get(node.name)
        if layer is not None and _packable(node, layer) and node.inputs[0].name in shapes:
            yield node, _case(node, layer, shapes[node.inputs[0].name])


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
