"""What of a graph goes with groups that lose all their channels: products of none, and what leads to those alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.model.macs import read_by

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Chains:
    """Which nodes of a graph, and which stored tensors, nobody needs any more as groups die.

    `products`: names of nodes, each a product of as many lengths as `lengths` (products, axes) has, of which one
    channel of a group takes `spans` (products, axes, groups). `widths` (groups,): channels that each group has.
    """

    def __init__(
        self, graph: gs.Graph, products: Sequence[str], lengths: Floats, spans: Floats, widths: Sequence[int]
    ) -> None:
        self.widths = np.array(widths, np.float64)
        stored = [name for name, tensor in graph.tensors().items() if isinstance(tensor, gs.Constant)]
        self.stored = {name: place for place, name in enumerate(stored)}
        self.nodes = {node.name: len(stored) + place for place, node in enumerate(graph.nodes)}
        self._readers = self._read(graph, stored)
        self._products = np.array([self.nodes[name] for name in products], np.int64)
        self._lengths = lengths
        self._taken = (spans * self.widths).reshape(lengths.size, len(self.widths))
        self._known: dict[bytes, Bools] = {}

    def gone(self, dead: Bools) -> Bools:
        """(rows, groups) which groups are dead -> (rows, stored tensors and nodes) which are gone then."""
        unknown = {row.tobytes(): row for row in dead if row.tobytes() not in self._known}
        if unknown:
            found = self._gone(np.array(list(unknown.values())))
            self._known.update(zip(unknown, found, strict=True))
        return np.array([self._known[row.tobytes()] for row in dead])

    def _gone(self, dead: Bools) -> Bools:
        left = self._lengths - (dead @ self._taken.T).reshape(len(dead), *self._lengths.shape)
        gone = np.zeros((len(dead), len(self._readers)), np.bool_)
        gone[:, self._products] = (left <= 0).any(2)
        for item, readers in reversed(list(enumerate(self._readers))):  # what reads stands behind
            if readers:
                gone[:, item] |= gone[:, readers].all(1)
        return gone

    def _read(self, graph: gs.Graph, stored: Sequence[str]) -> list[list[int]]:
        """By item, the nodes that read it; none where it is shown as an output."""
        readers: dict[str, set[int]] = {}
        for node in graph.nodes:
            for tensor in read_by(node):
                readers.setdefault(tensor.name, set()).add(self.nodes[node.name])
        shown = {tensor.name for tensor in graph.outputs}
        written = [[name] for name in stored] + [[tensor.name for tensor in node.outputs] for node in graph.nodes]
        return [
            [] if shown & set(names) else sorted(set().union(*(readers.get(name, set()) for name in names)))
            for names in written
        ]
