"""Reorder the channels of a group: the stored tensors change, the answers do not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.errors import Defect
from crisp_onnx.groups.group import ChannelGroup


def reorder(graph: gs.Graph, group: ChannelGroup, order: npt.ArrayLike) -> None:
    """Put channel `order[i]` of the group in place i, in every member, in place.

    Raises:
        Defect: the group is bound, or `order` is no permutation of its channels.
    """
    wanted = np.asarray(order, np.int64)
    if group.barriers:
        raise Defect(f"These channels may not be reordered: {group.barriers[0]}.")
    if not np.array_equal(np.sort(wanted), np.arange(group.width)):
        raise Defect(f"An order of {group.width} channels was expected, each once.")
    tensors = graph.tensors()
    places = np.arange(group.width)
    changed: dict[str, npt.NDArray[np.generic]] = {}
    for member in group.members:
        # A tensor may hold the group along two axes, so each move starts from what the last one left.
        new = changed.setdefault(member.tensor, np.array(tensors[member.tensor].values))
        along = np.moveaxis(new, member.axis, 0)
        along[member.indices(places)] = along[member.indices(wanted)]
    for name, values in changed.items():
        tensors[name].values = values
