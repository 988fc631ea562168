"""How much of a layer's output is noise where the layer alone computes in int8: which layers to leave in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.format.node import Grid
from crisp_onnx.quantize.rounding import on_grid, on_rows


@dataclass(frozen=True)
class LayerPlace:
    """A weight layer in the dense graph: the tensors that it reads and writes. `axis`: of the rows of its weight."""

    name: str
    weight: str
    source: str
    output: str
    axis: int


def layer_noise(
    module: GraphModule, layers: Sequence[LayerPlace], grids: Mapping[str, Grid], inputs: npt.NDArray[np.float32]
) -> dict[str, float]:
    """Power of the noise in the outputs of each layer over that of the outputs, by layer name.

    None of layers that `module` does not hold, as they lead to none of its outputs, or that read what has no grid.
    """
    parameters = dict(module.named_parameters())
    layers = [layer for layer in layers if layer.source in grids and layer.weight in parameters]
    device = next(module.parameters()).device
    module.eval()
    found: dict[str, float] = {}
    with torch.no_grad():
        wanted = sorted({name for layer in layers for name in (layer.source, layer.output)})
        tensors = module.run({module.input_names[0]: to_batch(inputs, device)}, wanted)
        for layer in layers:
            weight = parameters[layer.weight]
            real = weight.detach().clone()
            weight.copy_(on_rows(real, layer.axis))
            answer = module.run({layer.source: on_grid(tensors[layer.source], grids[layer.source])}, [layer.output])
            weight.copy_(real)
            found_here, expected = answer[layer.output], tensors[layer.output].double()
            if layer.output in grids:
                found_here = on_grid(found_here, grids[layer.output])
            noise = (found_here.double() - expected).square().mean()
            found[layer.name] = float(noise / expected.square().mean().clamp_min(1e-30))
    return found
