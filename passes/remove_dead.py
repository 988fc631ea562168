"""Remove channels that nothing counts: wherever they are summed up, their weights are zero.

What goes through an operator that mixes channels in another way, a norm over all of them say, counts in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups import ChannelGroup, Removal
from crisp_onnx.passes.insert_gates import apart, gated_columns
from crisp_onnx.passes.result import Declined, PassResult
from crisp_onnx.passes.slice_channels import SliceChannels


class RemoveDead:
    """Cut dead channels of `groups` out; a group that is dead as a whole keeps one. `shapes`: for one image."""

    name = "remove_dead"

    def __init__(self, groups: Sequence[ChannelGroup], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.groups, self.shapes = tuple(groups), shapes

    def run(self, graph: gs.Graph) -> PassResult:
        candidates = [group for group in self.groups if group.removable and group.width > 1]
        groups = apart(graph, candidates, self.shapes)
        alive = self._alive(graph, groups)
        removals, declined, first = [], [], 0
        for group in groups:
            dead = np.flatnonzero(~alive[first : first + group.width])
            first += group.width
            if len(dead) == group.width:
                name = next(iter((*group.producers, *group.consumers)), group.members[0].tensor)
                declined.append(Declined(self.name, name, "none of its channels counts; one stays in its place"))
                dead = dead[1:]
            if len(dead):
                removals.append(Removal(group, tuple(int(channel) for channel in dead)))
        return PassResult(SliceChannels(removals, self.shapes).run(graph).changed, tuple(declined))

    def _alive(self, graph: gs.Graph, groups: Sequence[ChannelGroup]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(channels of all groups,): whether some weight counts the channel, or nothing says so."""
        count = sum(group.width for group in groups)
        counts, seen = np.zeros(count + 1, bool), np.zeros(count + 1, bool)
        tensors = graph.tensors()
        for name, owners in gated_columns(graph, groups, self.shapes).items():
            weight = tensors[name].values
            gates = np.broadcast_to(owners, weight.shape)
            seen[owners] = True
            counts[gates[weight != 0]] = True
        found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (counts | ~seen)[:count]
        return found
