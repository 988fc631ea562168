"""Part stored tensors that nodes share before ONNX Runtime quantises: it makes bytes of one for all its readers alike.

A bias that an ordinary convolution shares with a hybrid one would be taken from the latter, and a matrix that one
product reads as it is and another transposed has rows along two axes.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable

import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.quantize.dense import WEIGHTED, row_axis

AS_IT_IS = "as it is"


def with_own_tensors(graph: gs.Graph, names: Collection[str]) -> None:
    """Give the nodes in `names`, which are to be quantised, copies of stored tensors that others use otherwise.

    In place. Nodes that are left alone keep the tensor; layers whose weight has its rows along one axis share it.
    """
    taken = tensor_names(graph)
    for tensor in [tensor for tensor in graph.tensors().values() if isinstance(tensor, gs.Constant)]:
        readers = {id(node): node for node in tensor.outputs}.values()
        places = [(node, slot) for node in readers for slot, given in enumerate(node.inputs) if given is tensor]
        uses = [_use(node, slot, names) for node, slot in places]
        stored: dict[Hashable, gs.Constant] = {AS_IT_IS if AS_IT_IS in uses else next(iter(uses), AS_IT_IS): tensor}
        for (node, slot), use in zip(places, uses, strict=True):
            if use not in stored:
                stored[use] = gs.Constant(fresh_name(taken, tensor.name), tensor.values)
            node.inputs[slot] = stored[use]


def _use(node: gs.Node, slot: int, names: Collection[str]) -> Hashable:
    """What the quantiser makes of what a node reads there: the same of all that have the same use."""
    if node.name not in names:
        return AS_IT_IS
    if node.op not in WEIGHTED:
        return "by its range"
    return ("rows", row_axis(node)) if slot == 1 else ("bias", node.name)
