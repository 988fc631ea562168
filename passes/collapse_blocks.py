"""Collapse chains without channels: a product whose weights are all zero gives a constant, which goes on as one.

The chain behind it (a branch of a residual block, say) is computed ahead down to where it meets what is still computed.
An addition there becomes its other branch alone, the identity or a projection, with the constant in the bias before it
where there is one. What led to the product is read by nobody any more, and goes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups import ChannelGroup
from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.fold_constants import FoldConstants
from crisp_onnx.passes.insert_gates import edges, summed_axis
from crisp_onnx.passes.result import Declined, PassResult, constant, only_consumer, read_instead

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SINGLE = frozenset(
    {
        "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
        "Softsign", "Clip", "Gelu", "Mish", "Erf", "Neg", "Abs", "Exp", "Identity", "Dropout", "ThresholdedRelu",
        "BatchNormalization", "GlobalAveragePool", "GlobalMaxPool",
    }
)  # fmt: skip
"""Operators of one computed input that make of a constant a channel another."""
JOINING = frozenset({"Add", "Sub", "Mul", "Div"})
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Collapsed:
    """`product`: the node whose weights were all zero. `into`: what is left in the place of its chain."""

    product: str
    into: str


class CollapseBlocks:
    """Replace products of zero weights. `shapes`: of all tensors, for one image. `collapsed`: what was, once it ran."""

    name = "collapse_blocks"

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.collapsed: tuple[Collapsed, ...] = ()

    def run(self, graph: gs.Graph) -> PassResult:
        taken, declined, found = tensor_names(graph), [], []
        for node in [node for node in graph.nodes if node.op in PRODUCTS and _is_shut(node)]:
            refusal, ends, _ = _reach(graph, node, self.shapes, ())
            if refusal:
                declined.append(Declined(self.name, node.name, refusal))
                continue
            _replace(node, _constant_of(node, self.shapes), taken)
            graph.cleanup(remove_unused_graph_inputs=False)
            FoldConstants().run(graph)
            found.append(Collapsed(node.name, "; ".join(_settle(graph, end, taken) for end in ends)))
            graph.cleanup(remove_unused_graph_inputs=False).toposort()
        self.collapsed = tuple(found)
        return PassResult(len(found), tuple(declined))


def with_bias(graph: gs.Graph, conv: gs.Node, bias: npt.NDArray[np.floating]) -> None:
    """Give a convolution another bias, (channels,)."""
    weight = conv.inputs[1]
    stored = gs.Constant(fresh_name(tensor_names(graph), f"{weight.name}.bias"), bias.astype(weight.values.dtype))
    conv.inputs = [*list(conv.inputs)[:2], stored]


def collapsible(graph: gs.Graph, groups: Sequence[ChannelGroup], shapes: Shapes) -> frozenset[int]:
    """Places of the groups all of whose channels may go, together: the others must keep one.

    Every product that reads such a group reads nothing else, and the constant that is left of it comes to an end.
    """
    places = edges(graph, groups, shapes)
    firsts = np.cumsum([0, *(group.width for group in groups)])
    found: set[int] = set()
    ended: set[str] = set()
    for place, group in enumerate(groups):
        readers = [node for node in graph.nodes if node.inputs and (node.inputs[0].name, summed_axis(node, shapes))
                   in {(member.tensor, member.axis) for member in group.flows}]  # fmt: skip
        own = range(firsts[place], firsts[place + 1])
        named: set[str] = set()
        for node in readers:
            owners = places.get((node.inputs[0].name, summed_axis(node, shapes)))
            alone = owners is not None and np.isin(owners, own).all() and not _obstacle(node)
            refusal, _, constants = _reach(graph, node, shapes, ended) if alone else ("it reads others", [], set())
            if refusal:
                break
            named |= constants
        else:
            if readers:
                found.add(place)
                ended |= named
    return frozenset(found)


def _obstacle(node: gs.Node) -> bool:
    """Whether weights or biases are computed, so that nothing is known of them."""
    return not all(constant(tensor) for tensor in node.inputs[1:] if not tensor.is_empty())


def _is_shut(node: gs.Node) -> bool:
    return not _obstacle(node) and not np.any(node.inputs[1].values)


def _reach(
    graph: gs.Graph, product: gs.Node, shapes: Shapes, others: Collection[str]
) -> tuple[str, list[gs.Node], set[str]]:
    """Why what the product gives cannot be a constant, empty where it can; where it joins others; tensors on the way.

    `others`: tensors that may become constant too.
    """
    constants, ends = {product.outputs[0].name}, []
    shown = {tensor.name for tensor in graph.outputs}
    for node in graph.nodes:
        hit = [tensor for tensor in node.inputs if tensor.name in constants]
        if not hit or node is product:
            continue
        rest = [t for t in node.inputs if t.name not in constants and not constant(t) and not t.is_empty()]
        joins = any(t.name not in others and shapes.get(t.name) == shapes.get(node.outputs[0].name) for t in rest)
        if node.op in JOINING and joins:
            ends.append(node)
        elif not rest and node.op in SINGLE | JOINING and not node.attrs.get("training_mode", 0):
            constants.add(node.outputs[0].name)
        else:
            return f"the constant that it gives would come to {node.op} {node.name!r}", [], constants
    if constants & shown:
        return "it writes an output of the graph", [], constants
    return "", ends, constants


def _constant_of(node: gs.Node, shapes: Shapes) -> npt.NDArray[np.floating]:
    """What a product of zero weights gives, in a shape that spreads over its output."""
    rank, weight = len(shapes[node.outputs[0].name]), node.inputs[1].values
    biased = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    if node.op == "Gemm":
        columns = weight.shape[0] if node.attrs.get("transB", 0) else weight.shape[1]
        bias = node.inputs[2].values * node.attrs.get("beta", 1.0) if biased else 0.0
        return np.broadcast_to(bias, (1, columns)).astype(weight.dtype)
    if node.op == "MatMul":
        return np.zeros((*[1] * (rank - 1), weight.shape[-1]), weight.dtype)
    channels = shapes[node.outputs[0].name][1]
    bias = node.inputs[2].values if biased else np.zeros(channels, weight.dtype)
    return bias.reshape(1, channels, *[1] * (rank - 2))


def _replace(node: gs.Node, values: npt.NDArray[np.floating], taken: set[str]) -> None:
    out = node.outputs[0]
    stored = gs.Constant(fresh_name(taken, f"{out.name}.constant"), values)
    read_instead(out, stored)
    node.outputs.clear()


def _settle(graph: gs.Graph, end: gs.Node, taken: set[str]) -> str:
    """Put the constant of an addition where it costs nothing; what is left of the block, in words."""
    terms = [tensor for tensor in end.inputs if constant(tensor)]
    others = [tensor for tensor in end.inputs if not constant(tensor)]
    if end.op != "Add" or len(terms) != 1:
        return f"a constant in {end.op} {end.name!r}"
    term, other, out = terms[0], others[0], end.outputs[0]
    row = term.values.reshape(-1)
    writer = other.inputs[0] if other.inputs else None
    if row.any() and not (writer is not None and only_consumer(graph, other) and _add_to_bias(writer, term, taken)):
        return f"a constant in Add {end.name!r}"
    if any(out is shown for shown in graph.outputs):
        if writer is None or only_consumer(graph, other) is None:
            return f"a constant in Add {end.name!r}"
        end.outputs.clear()
        writer.outputs = [out if tensor is other else tensor for tensor in writer.outputs]
    else:
        read_instead(out, other)
        end.outputs.clear()
    return "identity" if writer is None or not _projects(writer) else f"projection {writer.name!r}"


def _projects(writer: gs.Node) -> bool:
    if writer.op == "BatchNormalization" and writer.inputs[0].inputs:
        writer = writer.inputs[0].inputs[0]
    return writer.op in PRODUCTS


def _add_to_bias(writer: gs.Node, term: gs.Constant, taken: set[str]) -> bool:
    """Whether the term, a number a channel, could be added to what the node adds to each channel."""
    slot = {"Conv": 2, "ConvTranspose": 2, "BatchNormalization": 2}.get(writer.op)
    if slot is None or _obstacle(writer) or writer.attrs.get("training_mode", 0):
        return False
    rank = term.values.ndim
    channels = term.values.shape[1] if rank > 1 else 0
    if term.values.size != channels:
        return False
    biased = len(writer.inputs) > slot and not writer.inputs[slot].is_empty()
    bias = writer.inputs[slot].values if biased else np.zeros(channels, term.values.dtype)
    if bias.shape != (channels,):
        return False
    own = biased and len(writer.inputs[slot].outputs) == 1
    name = writer.inputs[slot].name if own else fresh_name(taken, f"{writer.outputs[0].name}.bias")
    added = gs.Constant(name, bias + term.values.reshape(-1))
    writer.inputs = [*list(writer.inputs)[:slot], added, *list(writer.inputs)[slot + 1 :]]
    return True
