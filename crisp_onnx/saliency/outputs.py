"""How much the loss minds an error in each output of a layer: the squares of its gradient, image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images, whole_batches
from crisp_onnx.model import WeightLayer
from crisp_onnx.saliency.gradients import losses_of
from crisp_onnx.task import Classification


def output_squares(
    module: GraphModule, layers: Sequence[WeightLayer], images: Images, task: Classification, *, batch_size: int
) -> dict[str, Tensor]:
    """By layer name (Cout,) in float64: E[(dL/dy)^2] of an image, summed over the output's positions.

    With errors e of the outputs that depend on nothing else, the loss rises by half the sum of E[e^2] times this: the
    diagonal of the Fisher information. The loss is over all outputs; without labels the class that the model prefers is
    the truth. Squares of several outputs' losses add up. A graph of a fixed batch is shown whole batches alone: inside
    of a filled one, tensors are cut, and no loss depends on what is cut from them.
    """
    module.eval()
    if module.takes is not None:
        images = images.subset(whole_batches(np.arange(len(images)), module.takes))
    count = len(task.every)
    nodes = {node.name: node for node in module.nodes}
    names = [nodes[layer.name].outputs[0] for layer in layers]
    device = next(module.parameters()).device
    totals = [torch.zeros(layer.shape[0], dtype=torch.float64, device=device) for layer in layers]
    for inputs, labels in images.batches(batch_size):
        found = module.several(to_batch(inputs, device), [*module.output_names[:count], *names])
        outputs, given = found[count:], None if labels is None else torch.from_numpy(labels).to(device)
        losses = losses_of(found[:count], given, task)
        while losses:
            loss = losses.pop() * len(inputs)
            gradients = torch.autograd.grad(loss, outputs, retain_graph=bool(losses), allow_unused=count > 1)
            for layer, total, gradient in zip(layers, totals, gradients, strict=True):
                if gradient is not None:
                    last = gradient.movedim(1, -1) if layer.op == "Conv" else gradient
                    total.add_(last.reshape(-1, layer.shape[0]).square().sum(0, dtype=torch.float64))
    return {layer.name: total / max(1, len(images)) for layer, total in zip(layers, totals, strict=True)}
