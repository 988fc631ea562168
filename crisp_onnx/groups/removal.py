"""What is removed from a graph: channels of groups, and so indices along axes of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import Defect
from crisp_onnx.groups.group import ChannelGroup

Removed = Mapping[tuple[str, int], npt.NDArray[np.int64]]
"""Ascending indices by tensor name and axis, of stored and of computed tensors."""


@dataclass(frozen=True)
class Removal:
    """`channels` of a group, by their numbers in it."""

    group: ChannelGroup
    channels: tuple[int, ...]


def removed_indices(removals: Sequence[Removal]) -> Removed:
    """Every index that goes; axes that lose none are left out.

    Raises:
        Defect: a group of which none may be removed, or all of whose channels are to go, or has no such channel.
    """
    found: dict[tuple[str, int], list[npt.NDArray[np.int64]]] = {}
    for removal in removals:
        group, channels = removal.group, sorted(set(removal.channels))
        if not channels:
            continue
        if not group.removable:
            raise Defect(f"These channels may not be removed: {(*group.barriers, *group.keeps)[0]}.")
        if channels[0] < 0 or channels[-1] >= group.width or len(channels) == group.width:
            raise Defect(f"Of {group.width} channels at most {group.width - 1} can be removed, each by its number.")
        for member in (*group.members, *group.flows):
            found.setdefault((member.tensor, member.axis), []).append(member.indices(channels))
    return {place: np.unique(np.concatenate(indices)) for place, indices in found.items()}
