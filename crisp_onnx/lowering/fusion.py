"""Which neighbours of a product run inside it: activation, normalisation, and the addition of a residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from crisp_onnx.lowering.quantised import CONVERSIONS

FUSED = frozenset(
    ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "BatchNormalization")
)
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))


@dataclass
class Fusion:
    """`heads`: fused node names of every product; `residual`: name of the tensor it adds; `taken`: all fused nodes."""

    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    residual: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


def fuse(graph: gs.Graph, products: list[gs.Node], rank: Mapping[str, int]) -> Fusion:
    """Follow every product to the neighbours that can run inside it; each neighbour is fused once.

    `rank`: place of every node in the execution order. An addition joins the later of its two producers, because only
    then is the other operand ready.
    """
    fusion = Fusion()
    outputs = {id(tensor) for tensor in graph.outputs}
    for product in products:
        tail = product.outputs[0]
        names: list[str] = []
        while id(tail) not in outputs:
            step = _next(tail, fusion, rank)
            if step is None:
                break
            nodes, tail, residual = step
            if residual:
                fusion.residual[product.name] = residual
            names += [node.name for node in nodes]
            fusion.taken.update(node.name for node in nodes)
        fusion.heads[product.name] = tuple(names)
    return fusion


def _next(
    tail: gs.Tensor, fusion: Fusion, rank: Mapping[str, int]
) -> tuple[list[gs.Node], gs.Tensor, str | None] | None:
    """(nodes that join, the new tail, residual tensor) or `None` where the chain ends."""
    consumers = list(tail.outputs)
    if len(consumers) == 2:
        return _self_gate(consumers, fusion)
    if len(consumers) != 1 or consumers[0].name in fusion.taken:
        return None
    node = consumers[0]
    if node.op in FUSED | CONVERSIONS:
        return [node], node.outputs[0], None
    return _arithmetic(tail, node, rank) if node.op in ARITHMETIC and len(node.inputs) == 2 else None


def _arithmetic(
    tail: gs.Tensor, node: gs.Node, rank: Mapping[str, int]
) -> tuple[list[gs.Node], gs.Tensor, str | None] | None:
    other = node.inputs[1] if node.inputs[0] is tail else node.inputs[0]
    if isinstance(other, gs.Constant):
        return [node], node.outputs[0], None
    theirs = max((rank[n.name] for n in other.inputs), default=-1)
    mine = max((rank[n.name] for n in tail.inputs), default=-1)
    if node.op != "Add" or other is tail or mine <= theirs:
        return None
    return [node], node.outputs[0], str(other.name)


def _self_gate(consumers: list[gs.Node], fusion: Fusion) -> tuple[list[gs.Node], gs.Tensor, str | None] | None:
    """x * sigmoid(x), written as two nodes."""
    gate = next((n for n in consumers if n.op in ("Sigmoid", "HardSigmoid", "Tanh")), None)
    product = next((n for n in consumers if n.op == "Mul"), None)
    if gate is None or product is None or {gate.name, product.name} & fusion.taken:
        return None
    if len(gate.outputs[0].outputs) != 1 or gate.outputs[0].outputs[0] is not product:
        return None
    return [gate, product], product.outputs[0], None
