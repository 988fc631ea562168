"""Fit what removed channels gave into the others, and say which of a tensor's indices are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.api.crossing import Crossed
from crisp_onnx.api.sight import Sight, parted
from crisp_onnx.bridge import GraphModule
from crisp_onnx.channels import Choice
from crisp_onnx.groups import Removal, removed_indices
from crisp_onnx.model import WeightLayer, weight_layers
from crisp_onnx.reconstruct import LayerFit, refit_layers


def refit_columns(crossed: Crossed, choice: Choice, sight: Sight, seed: int) -> tuple[LayerFit, ...]:
    """Least squares, layer by layer, in place, as far as it can be: the removed columns are zero then."""
    layers = weight_layers(crossed.model)
    masks = column_masks(crossed.module, layers, choice)
    crossed.module.set_masks(masks)
    alike = {layer.name: layer.shape[0] for layer in layers if layer.weight in masks and masks[layer.weight].any()}
    images, judged = sight.images, sight.held_out
    if judged is None:
        images, judged = parted(images, seed)
    fits = refit_layers(crossed.module, layers, alike, images, judged, batch_size=crossed.batch, seed=seed)
    crossed.module.clear_masks()
    return fits


def column_masks(module: GraphModule, layers: Sequence[WeightLayer], choice: Choice) -> dict[str, Tensor]:
    """Masks that shut the columns of the removed channels, of the weights that read them and may be re-fitted."""
    parameters, by_weight = dict(module.named_parameters()), {layer.weight: layer for layer in layers}
    masks: dict[str, Tensor] = {}
    places = [*removed_indices(choice.removals).items()]
    for group in choice.dead:
        places += [((member.tensor, member.axis), member.indices(range(group.width))) for member in group.members]
    for (name, axis), indices in places:
        layer = by_weight.get(name)
        if layer is None or layer.groups > 1 or layer.obstacle or axis != (0 if layer.transposed else 1):
            continue
        mask = masks.get(name, torch.ones(parameters[name].shape, dtype=torch.bool))
        masks[name] = mask.index_fill(axis, torch.from_numpy(indices), False)
    return masks


def kept_indices(
    removals: Sequence[Removal], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[tuple[int, Tensor], ...]]:
    """By tensor: the axes that lose indices, and those that they keep."""
    found: dict[str, list[tuple[int, Tensor]]] = {}
    for (name, axis), indices in removed_indices(removals).items():
        kept = np.delete(np.arange(shapes[name][axis]), indices)
        found.setdefault(name, []).append((axis, torch.from_numpy(kept)))
    return {name: tuple(axes) for name, axes in found.items()}
