"""A graph that loses channels, while its nodes are told: what each axis keeps, and new stored values and nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups import Removed
from crisp_onnx.model import fresh_name

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Narrowed:
    """`shapes`: of all tensors before the removal. `taken`: names of tensors that are in use."""

    graph: gs.Graph
    removed: Removed
    shapes: Mapping[str, tuple[int, ...]]
    taken: set[str]

    def loses(self, tensor: gs.Tensor, axis: int) -> bool:
        return (tensor.name, axis) in self.removed

    def kept(self, tensor: gs.Tensor, axis: int) -> Ints:
        """The indices along the axis that stay."""
        return np.delete(np.arange(self.shapes[tensor.name][axis]), self.removed.get((tensor.name, axis), ()))

    def length(self, tensor: gs.Tensor, axis: int) -> int:
        """Along the axis, after the removal."""
        return self.shapes[tensor.name][axis] - len(self.removed.get((tensor.name, axis), ()))

    def places(self, tensor: gs.Tensor, axis: int, indices: Ints) -> Ints:
        """Where indices that stay lie after the removal."""
        return np.searchsorted(self.kept(tensor, axis), indices)

    def rank(self, tensor: gs.Tensor) -> int:
        return len(self.shapes[tensor.name])

    def state(self, node: gs.Node, place: int, values: npt.ArrayLike) -> None:
        """Give the node a stored input of its own."""
        while len(node.inputs) <= place:
            node.inputs.append(gs.Variable.empty())
        old = node.inputs[place]
        name = fresh_name(self.taken, f"{old.name or node.name}.narrow")
        node.inputs[place] = gs.Constant(name, np.asarray(values, np.int64))

    def add(self, op: str, inputs: list[gs.Tensor], y: gs.Tensor | None = None, **attributes: object) -> gs.Tensor:
        """A new node, and the tensor that it writes: `y`, or one of its own."""
        out = y if y is not None else gs.Variable(fresh_name(self.taken, f"{inputs[0].name}.{op}"), inputs[0].dtype)
        name = fresh_name(self.taken, f"{out.name}.narrow")
        self.graph.nodes.append(gs.Node(op, name, dict(attributes), inputs=inputs, outputs=[out]))
        return out

    def number(self, like: gs.Tensor, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> gs.Constant:
        """A stored value, named after a tensor."""
        return gs.Constant(fresh_name(self.taken, f"{like.name}.narrow"), np.asarray(value, dtype))
