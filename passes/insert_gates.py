"""Give channels gates: numbers, one a channel, by which what they hold is multiplied wherever channels are summed up.

A gate stands in front of every convolution and matrix product that reads the channels, and nowhere else: so each path
out of a channel meets its gate once, however many additions the channels go through, and a gate of zero is the removal
of the channel, where nothing else mixes channels (`apart`): a norm over all of them counts a shut one too. With means,
gates move a channel between itself and its mean, which a bias can give in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups import ChannelGroup, separate
from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.model.macs import images_in_graph
from crisp_onnx.passes.result import PassResult

Edge = tuple[str, int]
"""A tensor that is read by a product, and its channel axis."""
GATES = "channel.gates"


class InsertGates:
    """Put the gates of `groups` in.

    They become a second input of the graph, `gates` (images or 1, channels of all groups + 1): the groups in their
    order, and at the end one for every other channel. `means`: by edge, the mean of each index along it, zeros where
    there is none.
    """

    name = "insert_gates"

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        shapes: Mapping[str, tuple[int, ...]],
        means: Mapping[Edge, npt.NDArray[np.float64]] | None = None,
    ) -> None:
        self.groups, self.shapes, self.means = tuple(groups), shapes, means or {}
        self.gates = GATES

    def run(self, graph: gs.Graph) -> PassResult:
        taken = used_names(graph)
        self.gates = fresh_name(taken, GATES)
        places = edges(graph, self.groups, self.shapes)
        count = sum(group.width for group in self.groups) + 1
        gates = gs.Variable(self.gates, np.float32, ["gates.images", count])
        graph.inputs.append(gates)
        tensors = graph.tensors()
        for (name, axis), owners in places.items():
            gated = self._gated(graph, tensors[name], axis, gates, owners, taken)
            for node in list(tensors[name].outputs):
                if node.inputs[0] is tensors[name] and summed_axis(node, self.shapes) == axis:
                    node.inputs[0] = gated
        return PassResult(len(places))

    def _gated(
        self, graph: gs.Graph, tensor: gs.Tensor, axis: int, gates: gs.Variable, owners: npt.NDArray[np.int64],
        taken: set[str],
    ) -> gs.Variable:  # fmt: skip
        rank, size = len(self.shapes[tensor.name]), len(owners)

        def add(op: str, inputs: list[gs.Tensor], **attributes: object) -> gs.Variable:
            out = gs.Variable(fresh_name(taken, f"{tensor.name}.gate"), np.float32)
            graph.nodes.append(gs.Node(op, out.name, dict(attributes), inputs=inputs, outputs=[out]))
            return out

        def store(values: npt.NDArray[np.generic]) -> gs.Constant:
            return gs.Constant(fresh_name(taken, f"{tensor.name}.gate"), values)

        target = np.array([-1, *[1] * (rank - 1)], np.int64)
        target[axis] = size
        picked = add("Gather", [gates, store(owners)], axis=1)
        shaped = add("Reshape", [picked, store(target)])
        mean = self.means.get((tensor.name, axis))
        if mean is None:
            return add("Mul", [tensor, shaped])
        spread = [1] * rank
        spread[axis] = size
        centre = store(mean.astype(np.float32).reshape(spread))
        return add("Add", [add("Mul", [add("Sub", [tensor, centre]), shaped]), centre])


def edges(
    graph: gs.Graph, groups: Sequence[ChannelGroup], shapes: Mapping[str, tuple[int, ...]]
) -> dict[Edge, npt.NDArray[np.int64]]:
    """Where gates stand: for each edge, which gate each of its indices has.

    Left out are products of two computed tensors, and what does not hold an image a row: nothing says there, image by
    image, what a channel does.
    """
    flows: dict[Edge, list[tuple[ChannelGroup, int]]] = {}
    first = 0
    for group in groups:
        for member in group.flows:
            flows.setdefault((member.tensor, member.axis), []).append((group, first))
        first += group.width
    found: dict[Edge, npt.NDArray[np.int64]] = {}
    batch = images_in_graph(graph, shapes)
    for node in graph.nodes:
        edge = (node.inputs[0].name, summed_axis(node, shapes)) if node.inputs else ("", 0)
        if edge not in flows or edge in found or edge[1] == 0 or shapes[edge[0]][0] != batch:
            continue
        owners = np.full(shapes[edge[0]][edge[1]], first, np.int64)
        for group, start in flows[edge]:
            for member in (m for m in group.flows if (m.tensor, m.axis) == edge):
                owners[member.indices(range(group.width))] = start + np.repeat(np.arange(group.width), member.span)
        found[edge] = owners
    return found


def apart(graph: gs.Graph, groups: Sequence[ChannelGroup], shapes: Mapping[str, tuple[int, ...]]) -> list[ChannelGroup]:
    """Those of `groups` whose channels nothing mixes but products behind gates: a shut gate removes the channel."""
    places = edges(graph, groups, shapes)
    counted = {
        id(node) for node in graph.nodes if node.inputs and (node.inputs[0].name, summed_axis(node, shapes)) in places
    }
    return [group for group in groups if separate(graph, group, shapes, counted)]


def gated_columns(
    graph: gs.Graph, groups: Sequence[ChannelGroup], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[np.int64]]:
    """By weight name: the gate of each of its columns, in a shape that goes with the weight.

    A weight times its gates is the same as gates in front of the product that reads it.
    """
    places, found = edges(graph, groups, shapes), {}
    for node in graph.nodes:
        owners = places.get((node.inputs[0].name, summed_axis(node, shapes))) if node.inputs else None
        if owners is not None:
            found[node.inputs[1].name] = _beside_weight(node, owners)
    return found


def _beside_weight(node: gs.Node, owners: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    weight, groups = node.inputs[1].values.shape, int(node.attrs.get("group", 1))
    if node.op == "Conv":
        rows = np.repeat(owners.reshape(groups, -1), weight[0] // groups if groups > 1 else 1, axis=0)
        return rows.reshape(*rows.shape, *[1] * (len(weight) - 2))
    if node.op == "Gemm" and node.attrs.get("transB", 0):
        return owners[None]
    if node.op == "MatMul":
        return owners.reshape(*[1] * (len(weight) - 2), -1, *[1] * (len(weight) > 1))
    return owners.reshape(-1, *[1] * (len(weight) - 1))


def summed_axis(node: gs.Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The axis of its first input that a product with a stored weight sums over; 0 where it is none."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or not isinstance(node.inputs[1], gs.Constant):
        return 0
    weight, groups = node.inputs[1].values.shape, int(node.attrs.get("group", 1))
    if node.op == "Conv":
        return 0 if groups > 1 and weight[1] == 1 else 1
    if node.op == "ConvTranspose":
        return 0 if groups > 1 and weight[0] == groups else 1
    if node.op == "Gemm":
        return 0 if node.attrs.get("transA", 0) else 1
    return len(shapes[node.inputs[0].name]) - 1
