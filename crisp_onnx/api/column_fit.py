"""Fit what removed channels gave into the others, and say which of a tensor's indices are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.api.crossing import Crossed
from crisp_onnx.api.sight import Sight, parted
from crisp_onnx.bridge import GraphModule
from crisp_onnx.bridge.module import Lens
from crisp_onnx.channels import Choice
from crisp_onnx.groups import Removal, removed_indices
from crisp_onnx.model import WeightLayer, weight_layers
from crisp_onnx.reconstruct import LayerFit, refit_layers

Constants: TypeAlias = Mapping[str, npt.NDArray[np.float64]]
"""By tensor (n, channels, ...): a number for each channel."""


def refit_columns(
    crossed: Crossed, choice: Choice, constants: Constants, shapes: Mapping[str, tuple[int, ...]], sight: Sight,
    seed: int,
) -> tuple[LayerFit, ...]:  # fmt: skip
    """Least squares, layer by layer, in place, as far as it can be, in the network as it is without the channels.

    `constants`: by tensor, what is left of each of its channels where all those before it are gone. `shapes`: of all
    tensors, for one image.
    """
    module, layers = crossed.module, weight_layers(crossed.model)
    masks = column_masks(module, layers, choice)
    module.set_masks(masks)
    module.set_lenses(
        zeros_in_place(choice.removals, shapes) | {name: _constant(means) for name, means in constants.items()}
    )
    shut = {name for name, mask in masks.items() if not mask.any()}
    alike = {layer.name: layer.shape[0] for layer in layers if layer.weight in masks and layer.weight not in shut}
    free = [layer for layer in layers if layer.weight not in shut]
    images, judged = sight.images, sight.held_out
    if judged is None:
        images, judged = parted(images, seed)
    fits = refit_layers(module, free, alike, images, judged, batch_size=crossed.batch, seed=seed)
    module.clear_masks()
    module.set_lenses({})
    return fits


def zeros_in_place(removals: Sequence[Removal], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Lens]:
    """By computed tensor: zeros in the channels of it that are removed, whatever reads them."""
    flows = {(member.tensor, member.axis) for removal in removals for member in removal.group.flows}
    kept: dict[str, list[Tensor]] = {}
    for (name, axis), indices in removed_indices(removals).items():
        if (name, axis) in flows:
            places = torch.ones(shapes[name][axis], dtype=torch.bool)
            places[torch.from_numpy(indices)] = False
            spread = [1] * len(shapes[name])
            spread[axis] = -1
            kept.setdefault(name, []).append(places.reshape(spread))
    return {name: _shut(masks) for name, masks in kept.items()}


def _shut(masks: Sequence[Tensor]) -> Lens:
    def lens(value: Tensor) -> Tensor:
        for mask in masks:
            # Where channels and images share an axis, a batch has more of them: what is before and behind has zeros.
            if mask.ndim == value.ndim and all(m in (1, v) for m, v in zip(mask.shape, value.shape, strict=True)):
                value = torch.where(
                    mask.to(value.device), value, torch.zeros((), dtype=value.dtype, device=value.device)
                )
        return value

    return lens


def _constant(means: npt.NDArray[np.float64]) -> Lens:
    """What a tensor (n, channels, ...) gives whose channels are constant."""

    def lens(value: Tensor) -> Tensor:
        stored = torch.from_numpy(means).to(value)
        return stored.reshape(1, -1, *[1] * (value.ndim - 2)).expand_as(value).contiguous()

    return lens


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
        if name not in parameters:  # it leads to outputs that nothing is learnt for
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
