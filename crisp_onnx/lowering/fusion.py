"""Which neighbours of a product run inside it: activation, normalisation, and the addition of a residual."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from crisp_onnx.lowering.quantised import CONVERSIONS

FUSED = frozenset(
    ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "BatchNormalization")
)
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))
WRITTEN_OUT = ARITHMETIC | {"Erf", "HardSigmoid", "Pow", "Sigmoid", "Softplus", "Tanh"}
FUNCTIONS = (
    (frozenset({"Erf"}), "Gelu"),
    (frozenset({"Pow", "Tanh"}), "Gelu"),
    (frozenset({"Softplus", "Tanh"}), "Mish"),
    (frozenset({"HardSigmoid", "Mul"}), "HardSwish"),
)
"""Operators that give a function away where it is written out in several."""
MOST_WRITTEN_OUT = 12  # nodes of one function


@dataclass
class Fusion:
    """`heads`: fused node names of every product; `residual`: name of the tensor it adds; `taken`: all fused nodes.

    `types`: of the fused nodes, by name.
    """

    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    residual: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    types: dict[str, str] = field(default_factory=dict)


def fuse(
    graph: gs.Graph,
    products: list[gs.Node],
    rank: Mapping[str, int],
    *,
    still: Container[str] = (),
    runs: Callable[[str], bool] = lambda op: True,
) -> Fusion:
    """Follow every product to the neighbours that can run inside it; each neighbour is fused once.

    `still`: nodes that do not run, for what they give is known before. `rank`: place of every node in the execution
    order. An addition joins the later of its two producers, because only then is the other operand ready.
    `runs`: whether the target has an operator; what it lacks runs elsewhere, and so not inside a product.
    """
    fusion = Fusion()
    outputs = {id(tensor) for tensor in graph.outputs}
    for product in products:
        tail = product.outputs[0]
        names: list[str] = []
        while id(tail) not in outputs:
            step = _next(tail, fusion, rank, outputs, still)
            if step is None or not _has(step[0], runs):
                break
            nodes, tail, residual = step
            if residual:
                fusion.residual[product.name] = residual
            names += [node.name for node in nodes]
            fusion.taken.update(node.name for node in nodes)
            fusion.types.update((node.name, node.op) for node in nodes)
        fusion.heads[product.name] = tuple(names)
    return fusion


def _has(nodes: Sequence[gs.Node], runs: Callable[[str], bool]) -> bool:
    """Whether a target runs all of `nodes`, or the function that they write out."""
    ops = {node.op for node in nodes} - CONVERSIONS
    whole = next((name for marks, name in FUNCTIONS if marks <= ops), None)
    return all(map(runs, ops)) or (whole is not None and runs(whole))


def _next(
    tail: gs.Tensor, fusion: Fusion, rank: Mapping[str, int], outputs: Collection[int], still: Container[str]
) -> tuple[list[gs.Node], gs.Tensor, str | None] | None:
    """(nodes that join, the new tail, residual tensor) or `None` where the chain ends."""
    consumers = [node for node in tail.outputs if node.name not in still]
    if len(consumers) > 1:
        return _function(consumers, tail, fusion, outputs)
    if len(consumers) != 1 or consumers[0].name in fusion.taken:
        return None
    node = consumers[0]
    if node.op in FUSED | CONVERSIONS:
        return [node], node.outputs[0], None
    return _arithmetic(tail, node, rank, still) if node.op in ARITHMETIC and len(node.inputs) == 2 else None


def _arithmetic(
    tail: gs.Tensor, node: gs.Node, rank: Mapping[str, int], still: Container[str]
) -> tuple[list[gs.Node], gs.Tensor, str | None] | None:
    other = node.inputs[1] if node.inputs[0] is tail else node.inputs[0]
    if isinstance(other, gs.Constant) or (other.inputs and other.inputs[0].name in still):
        return [node], node.outputs[0], None
    theirs = max((rank[n.name] for n in other.inputs), default=-1)
    mine = max((rank[n.name] for n in tail.inputs), default=-1)
    if node.op != "Add" or other is tail or mine <= theirs:
        return None
    return [node], node.outputs[0], str(other.name)


def _function(
    readers: Sequence[gs.Node], tail: gs.Tensor, fusion: Fusion, outputs: Collection[int]
) -> tuple[list[gs.Node], gs.Tensor, str | None] | None:
    """A function of `tail` written out in nodes, such as swish (x * sigmoid(x)) or GELU by the error function.

    `readers`: those of `tail`.
    """
    inside: list[gs.Node] = []
    made = {id(tail)}
    waiting = list(readers)
    while waiting and len(inside) < MOST_WRITTEN_OUT:
        node = next((n for n in waiting if _of(n, made) and n.name not in fusion.taken), None)
        if node is None:
            return None
        inside.append(node)
        made.update(id(tensor) for tensor in node.outputs)
        names = {n.name for n in inside}
        made_here = [tensor for n in inside for tensor in n.outputs]
        results = [t for t in made_here if id(t) in outputs or any(r.name not in names for r in t.outputs)]
        left = [reader for reader in readers if reader.name not in names]
        if not left and len(results) == 1:
            return inside, results[0], None
        waiting = [*left, *(reader for tensor in results for reader in tensor.outputs if reader.name not in names)]
    return None


def _of(node: gs.Node, made: Collection[int]) -> bool:
    """Whether `node` computes value by value from tensors in `made` and constants alone."""
    taken = [tensor for tensor in node.inputs if not isinstance(tensor, gs.Constant) and not tensor.is_empty()]
    return node.op in WRITTEN_OUT and len(node.outputs) == 1 and all(id(tensor) in made for tensor in taken)
