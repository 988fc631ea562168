"""Let what is left in real numbers be computed so: ONNX Runtime makes bytes of what looks as if forgotten.

Behind a DequantizeLinear with one step, it quantises float32 weights of Conv, ConvTranspose and Gemm itself, with one
scale for the whole weight (its WeightBiasQuantization), and expanded bodies of hybrid operators are such nodes too. An
AveragePool between DequantizeLinear and QuantizeLinear becomes one of bytes, whether that can do what it says or not.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format.node import OnGrid, is_hybrid, is_int8, read
from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.quantise_hybrid import dequantised
from crisp_onnx.passes.result import PassResult, constant

LAST = -1
MOVING = frozenset(
    {
        *(
            "DepthToSpace",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "GatherND",
            "Identity",
            "MaxPool",
            "Reshape",
        ),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Operators whose outputs hold values of their first input alone."""


class KeepReals:
    """Such a product reads its bytes through a DequantizeLinear of its own, with the same step for every channel.

    Such a pool reads them through the Max of one tensor, which is that tensor.
    """

    name = "keep_reals"

    def run(self, graph: gs.Graph) -> PassResult:
        taken, changed = used_names(graph), 0
        for node in list(graph.nodes):
            if averages_otherwise_on_bytes(node) and _source(node.inputs[0]) is not None:
                _set_apart(graph, node, taken)
                changed += 1
                continue
            found = _channels(node)
            source = _source(node.inputs[0]) if found is not None else None
            if found is None or source is None:
                continue
            channels, axis = found
            of_bytes = source.tensor
            if dequantised(node.inputs[0]) is None:  # moved values are the same bytes again
                of_bytes = gs.Variable(fresh_name(taken, f"{node.name}.bytes"), np.uint8, node.inputs[0].shape)
                given = [node.inputs[0], *source.stored]
                name = fresh_name(taken, f"{node.name}.quantize")
                graph.nodes.append(gs.Node("QuantizeLinear", name, {}, given, [of_bytes]))
            real = gs.Variable(fresh_name(taken, f"{node.name}.real"), np.float32, node.inputs[0].shape)
            scale = np.full(channels, source.grid.scale, np.float32)
            zero = np.full(channels, source.grid.zero, np.uint8)
            steps = [
                gs.Constant(fresh_name(taken, f"{real.name}.{what}"), values)
                for what, values in (("scale", scale), ("zero", zero))
            ]
            name = fresh_name(taken, f"{node.name}.dequantize")
            graph.nodes.append(gs.Node("DequantizeLinear", name, {"axis": axis}, [of_bytes, *steps], [real]))
            node.inputs[0] = real
            changed += 1
        if changed:
            graph.cleanup(remove_unused_graph_inputs=False).toposort()
        return PassResult(changed)


def averages_otherwise_on_bytes(node: gs.Node) -> bool:
    """Whether ONNX Runtime's AveragePool of bytes is another one than the node.

    Where it rounds up and counts padding, the last windows are divided by too few or too many; it has no dilations.
    """
    counts_more = node.attrs.get("ceil_mode", 0) and node.attrs.get("count_include_pad", 0)
    return node.op == "AveragePool" and bool(counts_more or "dilations" in node.attrs)


def _set_apart(graph: gs.Graph, node: gs.Node, taken: set[str]) -> None:
    """Put a node that ONNX Runtime neither fuses nor takes out between the node and the DequantizeLinear before it."""
    source = node.inputs[0]
    real = gs.Variable(fresh_name(taken, f"{node.name}.real"), np.float32, source.shape)
    graph.nodes.append(gs.Node("Max", fresh_name(taken, f"{node.name}.apart"), {}, [source], [real]))
    node.inputs[0] = real


def _source(tensor: gs.Tensor) -> OnGrid | None:
    """The bytes that the tensor's values stand for, moved or not; None where they are other numbers."""
    while dequantised(tensor) is None:
        makers = list(tensor.inputs)
        if len(makers) != 1 or makers[0].op not in MOVING or makers[0].domain not in (None, "", "ai.onnx"):
            return None
        tensor = makers[0].inputs[0]
    return dequantised(tensor)


def _channels(node: gs.Node) -> tuple[int, int] | None:
    """How many values of the input a step belongs to, and their axis; None for what ONNX Runtime leaves alone."""
    if is_hybrid(node):
        stated = read(node)
        return None if is_int8(node) else (stated.shape[1], LAST if stated.window is None else 1)
    if node.op not in ("Conv", "ConvTranspose", "Gemm") or not constant(node.inputs[1]):
        return None
    shape = node.inputs[1].shape
    if node.op == "Conv":
        return shape[1] * node.attrs.get("group", 1), 1
    if node.op == "ConvTranspose":
        return shape[0], 1
    return shape[1 if node.attrs.get("transB", 0) else 0], 0 if node.attrs.get("transA", 0) else LAST
