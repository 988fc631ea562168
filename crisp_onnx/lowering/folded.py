"""Operators that take no time in a run: what follows from shapes alone, and what hands on what it takes.

An estimate is of one shape, for which the tools of every target compile a model, and for which ONNX Runtime folds it at
load (constant folding, which replaces Shape too where the shape is known). What depends on constants and on shapes, and
on no value of an image, is then computed once, before the first image: Shape, Gather of a shape, its arithmetic, the
Concat and the Unsqueeze before a Reshape, position numbers. What gives the very values that it takes is taken out by
those tools (identity, slice, expand and cast elimination) or changes no byte in memory. Conversions between types are
charged to the products around them, which are priced in one type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.lowering.quantised import CONVERSIONS
from crisp_onnx.model.macs import read_by

Shapes = Mapping[str, tuple[int, ...]]

_SAME_BYTES = frozenset({"Cast", "CastLike", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_OF_ONE = frozenset({"Concat", "Max", "Mean", "Min", "Split", "Sum"})
"""Those that do something only to several tensors."""
_GROWS = frozenset({"Expand", "Tile"})
_SHAPES = frozenset({"Shape", "Size"})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_SIZED_BY_VALUES = frozenset({"Compress", "If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique"})
"""Operators of which the values that they read decide how much they give."""
_SIZED_BY_ALL = frozenset({"ConstantOfShape", "Range"})
_SIZED_BY_OTHERS = frozenset(
    {"Expand", "OneHot", "Pad", "Reshape", "Resize", "Slice", "Split", "Tile", "TopK", "Upsample"}
)
"""Operators of which the values behind the first input do so."""


def settled(graph: gs.Graph) -> set[str]:
    """Names of the nodes whose values follow from constants and from shapes that no value of an input decides."""
    values = {id(tensor) for tensor in graph.inputs}
    sizes: set[int] = set()
    found = set()
    for node in graph.nodes:
        read = list(read_by(node))
        by_size = any(id(tensor) in sizes for tensor in read)
        by_value = by_size if node.op in _SHAPES else any(id(tensor) in values for tensor in read)
        made = {id(tensor) for tensor in node.outputs}
        if by_size or _sized_by(node, values):
            sizes.update(made)
        if by_value or node.op in _RANDOM:
            values.update(made)
        else:
            found.add(node.name)
    return found


def _sized_by(node: gs.Node, values: Collection[int]) -> bool:
    """Whether `values`, which an image decides, decide how much `node` gives."""
    if node.op in _SIZED_BY_VALUES | _SIZED_BY_ALL:
        return any(id(tensor) in values for tensor in read_by(node))
    return node.op in _SIZED_BY_OTHERS and any(id(tensor) in values for tensor in node.inputs[1:])


def hands_on(node: gs.Node, shapes: Shapes) -> bool:
    """Whether `node` gives the values that it takes, or none of them, or is a conversion charged to its neighbours."""
    if node.op in _SAME_BYTES | _SHAPES | CONVERSIONS:
        return True
    if node.op in _OF_ONE:
        return sum(not tensor.is_empty() for tensor in node.inputs) == 1 == len(node.outputs)
    if node.op not in _GROWS and not (node.op == "Slice" and _forward(node)):
        return False
    taken, given = (shapes.get(tensors[0].name) for tensors in (node.inputs, node.outputs))
    return taken is not None and taken == given


def _forward(node: gs.Node) -> bool:
    """Whether the steps of a Slice are known to be positive, so that a result as large as its input is its input."""
    if len(node.inputs) < 5 or node.inputs[4].is_empty():
        return True
    steps = node.inputs[4]
    return isinstance(steps, gs.Constant) and bool(np.all(np.asarray(steps.values) > 0))
