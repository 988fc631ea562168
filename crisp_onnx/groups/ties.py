"""Which indices of which axes are one and the same channel: what the rules say of all operators, put together.

Every index along every axis of every tensor is an atom. A rule ties atoms of a node's inputs to those of its outputs;
what hangs together is one channel. What no rule ties stays bound where it is, so that an operator without a rule, or a
case that a rule leaves out, can cost coverage and never correctness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups.group import Barrier

Ints = npt.NDArray[np.int64]
Shapes = Mapping[str, tuple[int, ...]]
Axis = tuple[str, int]
_OUT_OF_STEP = "it takes them in an order that differs from channel to channel"
Side = tuple[gs.Tensor, int] | tuple[gs.Tensor, int, Ints]
"""An axis of a tensor, whole or at the given indices."""


class Ties:
    """Atoms and what is said of them. `shapes`: of every tensor, for one image.

    `live`: axes whose order some weight decides, as far as the rules have come; the others (positions, the batch, what
    an input fixes) are bound, and a rule that must choose among axes follows the live ones.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.first: dict[Axis, int] = {}
        self.count = 0
        self.live: set[Axis] = set()
        self.tied: list[tuple[Ints, Ints, Barrier]] = []
        self.bound: list[tuple[Ints, Barrier]] = []
        self.kept: list[tuple[Ints, Barrier]] = []
        self.parted: list[tuple[Ints, Ints]] = []

    def atoms(self, tensor: str, axis: int) -> Ints:
        """The atoms along an axis, in order."""
        size = self.shapes[tensor][axis]
        first = self.first.get((tensor, axis))
        if first is None:
            first = self.first[tensor, axis] = self.count
            self.count += size
        return np.arange(first, first + size)

    def bind(self, tensor: str, barrier: Barrier) -> None:
        """Every axis of the tensor must stay in the order that it has."""
        for axis, size in enumerate(self.shapes.get(tensor, ())):
            if size:
                self.bound.append((self.atoms(tensor, axis), barrier))

    def channels(self) -> Ints:
        """(atoms,): the channel that each atom belongs to, by the least of its atoms."""
        root = np.arange(self.count)
        if not self.tied:
            return root
        one, other = (np.concatenate([pair[side] for pair in self.tied]) for side in (0, 1))
        while True:
            low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
            apart = low != high
            if not apart.any():
                return root
            np.minimum.at(root, high[apart], low[apart])
            while not np.array_equal(above := root[root], root):
                root = above


class NodeTies:
    """What the rule of one node, or of a chain of nodes from `node` to `outputs`, says.

    `reason`: why what it leaves out is bound; may be empty.
    """

    def __init__(self, node: gs.Node, ties: Ties, outputs: Sequence[gs.Tensor]) -> None:
        self.node = node
        self._outputs = outputs
        self._ties = ties
        self._said: dict[Axis, npt.NDArray[np.bool_]] = {}
        self.reason = ""

    def shape(self, tensor: gs.Tensor) -> tuple[int, ...]:
        return self._ties.shapes[tensor.name]

    def is_live(self, tensor: gs.Tensor, axis: int) -> bool:
        return (tensor.name, axis) in self._ties.live

    def tie(self, *sides: Side) -> None:
        """The sides hold the same channels, index by index; one index beside many is broadcast and stays apart."""
        found = [(side, self._atoms(side)) for side in sides]
        longest = max((len(atoms) for _, atoms in found), default=0)
        wide = [side for side, atoms in found if len(atoms) == longest]
        whole = [atoms for _, atoms in found if len(atoms) == longest]
        for atoms in whole[1:]:
            self._ties.tied.append((whole[0], atoms, Barrier(self.node.op, self.node.name, _OUT_OF_STEP)))
        for _, atoms in found:
            if len(atoms) < longest:
                self._ties.kept.append((atoms, Barrier(self.node.op, self.node.name, "one channel goes to all")))
        outputs = {tensor.name for tensor in self._outputs}
        computed = [s for s in wide if s[0].name not in outputs and not isinstance(s[0], gs.Constant)]
        if all(self.is_live(side[0], side[1]) for side in computed):
            self._ties.live.update((side[0].name, side[1]) for side in wide if side[0].name in outputs)

    def ignore(self, tensor: gs.Tensor, *axes: int) -> None:
        """The order along these axes (all where none is named) makes no difference to the node."""
        for axis in axes or range(len(self.shape(tensor))):
            self._atoms((tensor, axis))

    def keep(self, tensor: gs.Tensor, axis: int, reason: str) -> None:
        """Channels along the axis may change places, but none may be removed."""
        barrier = Barrier(self.node.op, self.node.name, reason)
        self._ties.kept.append((self._ties.atoms(tensor.name, axis), barrier))

    def part(self, tensor: gs.Tensor, axis: int, numbers: Ints) -> None:
        """Channels with different `numbers` (one an index) may not change places."""
        self._ties.parted.append((self._ties.atoms(tensor.name, axis), numbers))

    def take_back(self, reason: str) -> None:
        """Bind everything after all: what was said may be half of the truth."""
        self._said.clear()
        self.reason = reason

    def close(self) -> None:
        """Bind every index of every axis of which the rule said nothing."""
        barrier = Barrier(self.node.op, self.node.name, self.reason)
        for tensor in (*self.node.inputs, *self._outputs):
            for axis, size in enumerate(() if tensor.is_empty() else self._ties.shapes.get(tensor.name, ())):
                said = self._said.get((tensor.name, axis))
                if size and (said is None or not said.all()):
                    atoms = self._ties.atoms(tensor.name, axis)
                    self._ties.bound.append((atoms if said is None else atoms[~said], barrier))

    def _atoms(self, side: Side) -> Ints:
        tensor, axis = side[0], side[1]
        said = self._said.setdefault((tensor.name, axis), np.zeros(self.shape(tensor)[axis], bool))
        if len(side) == 3:
            said[side[2]] = True
            return self._ties.atoms(tensor.name, axis)[side[2]]
        said[:] = True
        return self._ties.atoms(tensor.name, axis)
