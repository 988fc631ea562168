"""Whether channels go their ways one by one, so that one that no product counts changes nothing at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_graphsurgeon as gs

from crisp_onnx.groups.group import ChannelGroup
from crisp_onnx.groups.rules.reductions import REDUCTIONS
from crisp_onnx.groups.rules.table import ELEMENTWISE

Shapes = Mapping[str, tuple[int, ...]]
_PLACING = frozenset(
    {
        "Clip", "Dropout", "Concat", "Split", "Slice", "Gather", "Pad", "Expand", "Transpose", "Reshape", "Flatten",
        "Squeeze", "Unsqueeze", "Resize", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
        "GlobalLpPool", "Shape", "Size",
    }
)  # fmt: skip


def separate(graph: gs.Graph, group: ChannelGroup, shapes: Shapes, counted: Collection[int]) -> bool:
    """Whether nothing that reads the group's channels mixes them, but the nodes whose ids are `counted`."""
    axes: dict[str, set[int]] = {}
    for member in group.flows:
        axes.setdefault(member.tensor, set()).add(member.axis)
    return all(
        id(node) in counted or _one_by_one(node, axes[tensor.name], shapes, len(shapes[tensor.name]))
        for node in graph.nodes
        for tensor in node.inputs
        if tensor.name in axes
    )


def _one_by_one(node: gs.Node, axes: set[int], shapes: Shapes, rank: int) -> bool:
    if node.op in ELEMENTWISE or node.op in _PLACING:
        return True
    if node.op in ("Conv", "ConvTranspose"):
        weight, groups = shapes.get(node.inputs[1].name, ()), int(node.attrs.get("group", 1))
        return groups > 1 and weight[node.op == "Conv"] == (1 if node.op == "Conv" else groups) and axes == {1}
    if node.op in ("BatchNormalization", "InstanceNormalization"):
        return axes == {1}
    if node.op in ("Softmax", "LogSoftmax"):
        return int(node.attrs.get("axis", -1)) % rank not in axes
    if node.op in REDUCTIONS:
        stated = node.attrs.get("axes")
        if stated is None and len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
            stated = node.inputs[1].values.reshape(-1)
        return stated is not None and len(stated) > 0 and not axes & {int(axis) % rank for axis in stated}
    return False
