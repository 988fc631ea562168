"""What the inputs of every weight are like, summed over all images: squares, norms, how often they are not zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import onnx_graphsurgeon as gs
import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images
from crisp_onnx.model import WeightLayer
from crisp_onnx.saliency.criteria import Statistic
from crisp_onnx.saliency.sums import Sums


def input_sums(
    statistic: Statistic,
    module: GraphModule,
    layers: Sequence[WeightLayer],
    graph: gs.Graph,
    images: Images,
    *,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda images: None,
) -> Sums:
    """Sums over all images, in a shape that multiplies the stored weight. `statistic`: one of `OF_INPUTS`.

    `advance` is told of the images that are done.
    """
    nodes = {node.name: node for node in graph.nodes}
    feeds = {layer.weight: nodes[layer.name].inputs[0].name for layer in layers}
    device = next(module.parameters()).device
    totals: dict[str, Tensor] = {}
    module.eval()
    with torch.no_grad():
        for inputs, _ in images.batches(batch_size):
            tensors = {graph.inputs[0].name: to_batch(inputs, device)}
            seen = module.run(tensors, sorted(set(feeds.values())))
            for layer in layers:
                values = seen[feeds[layer.weight]]
                if statistic == "input_norm":
                    found = _squares(values, layer, nodes[layer.name].attrs)
                else:
                    found = _of_channels(statistic, values, layer)
                totals[layer.weight] = totals.get(layer.weight, torch.zeros_like(found)) + found
            advance(len(inputs))
    return Sums({layer.weight: _as_stored(totals[layer.weight], layer) for layer in layers}, len(images))


def input_shape(statistic: Statistic, layer: WeightLayer) -> tuple[int, ...]:
    """The shape of a layer's sums in `input_sums`."""
    if layer.op == "Conv":
        return (1, *layer.shape[1:]) if statistic == "input_norm" else (1, layer.shape[1], 1, 1)
    return (layer.shape[1], 1) if layer.transposed else (1, layer.shape[1])


def _squares(inputs: Tensor, layer: WeightLayer, attrs: Mapping[str, object]) -> Tensor:
    """Sum of squares by column of the weight: (Cin, kh, kw)."""
    if layer.op != "Conv":
        return inputs.float().square().reshape(-1, inputs.shape[-1]).sum(0).reshape(-1, 1, 1)
    pads = list(attrs.get("pads", [0, 0, 0, 0]))  # type: ignore[call-overload]
    squares = inputs.float().square().sum(0, keepdim=True)
    padded = functional.pad(squares, (pads[1], pads[3], pads[0], pads[2]))
    window = layer.shape[2:]
    columns = functional.unfold(
        padded,
        window,
        dilation=attrs.get("dilations", [1, 1]),  # type: ignore[arg-type]
        stride=attrs.get("strides", [1, 1]),  # type: ignore[arg-type]
    )
    return columns.sum((0, 2)).reshape(layer.shape[1], *window)


def _of_channels(statistic: Statistic, inputs: Tensor, layer: WeightLayer) -> Tensor:
    """Sum over images of a number for each channel, (Cin, 1, 1): its norm, or its share of values that are not zero."""
    channels = inputs.float() if layer.op == "Conv" else inputs.float().reshape(len(inputs), -1, inputs.shape[-1]).mT
    rows = channels.reshape(*channels.shape[:2], -1)
    found = rows.norm(dim=2) if statistic == "input_l2" else (rows != 0).float().mean(2)
    return found.sum(0).reshape(-1, 1, 1)


def _as_stored(squares: Tensor, layer: WeightLayer) -> Tensor:
    """(Cin, kh, kw) -> a shape that broadcasts over the stored weight's output channels."""
    if layer.op == "Conv":
        return squares[None]
    flat = squares.reshape(prod(squares.shape))
    return flat[:, None] if layer.transposed else flat[None]
