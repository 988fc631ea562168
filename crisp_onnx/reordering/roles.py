"""What a group of channels is to the layers that become sparse: which rows and which columns of their matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.groups import ChannelGroup
from crisp_onnx.model import WeightLayer
from crisp_onnx.reordering.kept import KeptLayer


@dataclass(frozen=True, eq=False)
class Role:
    """`at` (width, places): the rows of the layer's matrix that each channel is, or its columns where `reads`."""

    layer: KeptLayer
    reads: bool
    at: Tensor

    def move(self, to: Tensor, source: Tensor) -> None:
        """Put channel `source[i]` in place `to[i]`."""
        ends = (self.at[to].reshape(-1), self.at[source].reshape(-1))
        (self.layer.move_columns if self.reads else self.layer.move_rows)(*ends)


def sides_of(group: ChannelGroup, layers: Iterable[WeightLayer]) -> dict[tuple[str, bool], Tensor]:
    """By weight name and whether it reads the channels: (width, places) rows, or input channels, of its matrix."""
    by_weight = {layer.weight: layer for layer in layers}
    places = np.arange(group.width)
    found: dict[tuple[str, bool], list[Tensor]] = {}
    for member in group.members:
        layer = by_weight.get(member.tensor)
        if layer is not None:
            at = torch.from_numpy(member.indices(places).reshape(group.width, -1))
            found.setdefault((layer.weight, member.axis != (1 if layer.transposed else 0)), []).append(at)
    return {side: torch.cat(parts, 1) for side, parts in found.items()}


def roles_of(group: ChannelGroup, layers: Iterable[WeightLayer], kept: Mapping[str, KeptLayer]) -> list[Role]:
    """The group's roles in the layers of `kept`, by weight name."""
    roles = []
    for (weight, reads), at in sides_of(group, layers).items():
        layer = kept.get(weight)
        if layer is not None:
            roles.append(Role(layer, reads, layer.columns(at).reshape(len(at), -1) if reads else at))
    return roles
