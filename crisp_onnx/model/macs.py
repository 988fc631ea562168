"""Count multiply-accumulates: of each operator that multiplies matrices, from the shapes at which it runs.

This is the one count of check, compress, estimate and budgets. Elementwise operators, pooling, normalisation and
resizing are no products of matrices and count nothing. Padding counts like the values beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import onnx_graphsurgeon as gs

from crisp_onnx.model.spec import DEFAULT_DOMAIN, Model
from crisp_onnx.model.work import PLAIN, WINDOWS

Dims = tuple[int, ...]
Shapes = Mapping[str, Dims]

_NO_PRODUCTS = PLAIN | WINDOWS | frozenset({
    "Bernoulli", "Col2Im", "Compress", "GridSample", "LRN", "MaxRoiPool", "MaxUnpool", "Multinomial",
    "NonMaxSuppression", "NonZero", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    "ReverseSequence", "RoiAlign", "RotaryEmbedding", "Scatter", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence", "ConcatFromSequence", "Unique",
})  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """What a graph multiplies for one image outside its weight layers, and never less: nothing of it can be pruned.

    `macs`: of all of it. `operators`: how many nodes of each type. `untold`: a phrase for each node that may multiply
    matrices, but not so that its MACs can be told.
    """

    macs: int = 0
    operators: Mapping[str, int] = field(default_factory=dict)
    untold: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it."""
        notes = []
        if self.macs:
            listed = ", ".join(f"{count} {op}" for op, count in self.operators.items())
            notes.append(
                f"{self.macs:,} of the MACs are in operators that are no weight layers ({listed}): they count among "
                "all, and no zeros are put in them; fewer channels may save some of them."
            )
        if self.untold:
            more = f" and {len(self.untold) - 3} more" if len(self.untold) > 3 else ""
            notes.append(f"MACs leave out what cannot be told: {', '.join(self.untold[:3])}{more}.")
        return tuple(notes)


def macs_of(node: gs.Node, shapes: Shapes) -> int | None:
    """Multiply-accumulates of one run of `node` at these `shapes`; None where they cannot be told."""
    if node.domain not in (None, *DEFAULT_DOMAIN):
        return None
    if node.op in _NO_PRODUCTS:
        return 0
    count = _COUNTS.get(node.op)
    if count is None or any(isinstance(value, gs.Graph) for value in node.attrs.values()):
        return None
    try:
        return count(node, _Known(shapes))
    except LookupError:  # a shape is unknown, or operands of too few axes that no runtime takes
        return None


def images_in(model: Model, shapes: Shapes) -> int:
    """How many images those shapes are for."""
    return _first(shapes.get(model.input.name, ()))


def images_in_graph(graph: gs.Graph, shapes: Shapes) -> int:
    """`images_in`, where there is no more than the graph, whose first input takes the images."""
    return _first(shapes.get(graph.inputs[0].name, ()) if graph.inputs else ())


def _first(dims: Sequence[int]) -> int:
    return max(dims[0], 1) if dims else 1


def beside_layers(model: Model, layers: Collection[str], shapes: Shapes) -> Beside:
    """What `model` multiplies for one image outside of the weight layers named `layers`."""
    graph, images = model.view, images_in(model, shapes)
    still = constant_nodes(graph)
    macs, operators, untold = 0, Counter[str](), []
    for node in graph.nodes:
        if node.name in layers or node.name in still:
            continue
        count = macs_of(node, shapes)
        if count is None:
            untold.append(f"{node.op} {node.name!r}")
        elif count:
            macs += count
            operators[node.op] += 1
    return Beside(-(-macs // images), dict(operators), tuple(untold))


def constant_nodes(graph: gs.Graph) -> set[str]:
    """Nodes that depend on no input of the graph; a runtime folds them at load."""
    varying = {id(tensor) for tensor in graph.inputs}
    constant = set()
    for node in graph.nodes:
        if any(id(tensor) in varying for tensor in read_by(node)):
            varying.update(id(tensor) for tensor in node.outputs)
        else:
            constant.add(node.name)
    return constant


def read_by(node: gs.Node) -> Iterable[gs.Tensor]:
    """What the node reads, and the graphs in it."""
    yield from node.inputs
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from read_by(inner)
            yield from value.outputs


class _Known:
    """Shapes of a node's tensors; a LookupError where one is not known."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    def __call__(self, tensor: gs.Tensor) -> Dims:
        if isinstance(tensor, gs.Constant):
            return tuple(int(side) for side in tensor.shape)
        return self.shapes[tensor.name]


_Count = Callable[[gs.Node, _Known], int]


def _convolution(weight: int) -> _Count:
    """Each element of the result reads a window of the channels of its group."""
    return lambda node, known: prod(known(node.outputs[0])) * prod(known(node.inputs[weight])[1:])


def _transposed_convolution(node: gs.Node, known: _Known) -> int:
    """Each element of the input is spread over a window of the channels of its group."""
    return prod(known(node.inputs[0])) * prod(known(node.inputs[1])[1:])


def _product(node: gs.Node, known: _Known) -> int:
    """Each element of the result is a row times a column, as long as the last axis of the left operand."""
    return prod(known(node.outputs[0])) * known(node.inputs[0])[-1]


def _gemm(node: gs.Node, known: _Known) -> int:
    length = known(node.inputs[0])[0 if node.attrs.get("transA", 0) else 1]
    return prod(known(node.outputs[0])) * length


@dataclass(frozen=True)
class Contraction:
    """An Einsum of two operands as `groups` products of (rows x length) and (length x columns)."""

    groups: int
    rows: int
    length: int
    columns: int


def contraction(node: gs.Node, shapes: Shapes) -> Contraction:
    """What an Einsum of two operands multiplies, once each is summed over the axes that are its alone.

    Raises:
        LookupError: it has more or fewer operands, or a shape is not known.
    """
    if len(node.inputs) != 2:
        raise LookupError
    known = _Known(shapes)
    equation = node.attrs["equation"]
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "").replace("...", ".")
    terms, _, result = text.partition("->")
    sides: list[dict[str, int]] = []
    for term, tensor in zip(terms.split(","), node.inputs, strict=True):
        sides.append(dict(_labelled(term, known(tensor))))
    left, right = sides
    shared = left.keys() & right.keys()
    if "->" not in text:
        written = {label for label in left.keys() | right.keys() if terms.count(label) == 1 or label[0] == "."}
    else:
        written = {label for label in left.keys() | right.keys() if label in result or label[0] == "."}

    def size(labels: Iterable[str]) -> int:
        return prod(max(left.get(label, 1), right.get(label, 1)) for label in labels)

    return Contraction(
        groups=size(shared & written),
        rows=size(written - right.keys()),
        length=size(shared - written),
        columns=size(written - left.keys()),
    )


def _einsum(node: gs.Node, known: _Known) -> int:
    """One operand alone is moved and summed; the order in which more than two are multiplied is the runtime's."""
    if len(node.inputs) == 1:
        return 0
    found = contraction(node, known.shapes)
    return found.groups * found.rows * found.length * found.columns


def _labelled(term: str, dims: Dims) -> Iterable[tuple[str, int]]:
    """The axes of an operand of an Einsum by label; those of an ellipsis are counted from its end."""
    hidden = len(dims) - len(term.replace(".", ""))
    labels: list[str] = []
    for label in term:
        labels += [f".{place}" for place in range(hidden, 0, -1)] if label == "." else [label]
    if len(labels) != len(dims):
        raise LookupError
    return zip(labels, dims, strict=True)


def _attention(node: gs.Node, known: _Known) -> int:
    """Each query meets each key, and each weighs a value."""
    keys = known(node.inputs[1])[-2]
    if len(node.inputs) > 4 and not node.inputs[4].is_empty():
        keys += known(node.inputs[4])[-2]
    return (prod(known(node.inputs[0])) + prod(known(node.outputs[0]))) * keys


def _recurrent(node: gs.Node, known: _Known) -> int:
    """Each step of each sequence is multiplied by the weights of its input and of the state before it."""
    return prod(known(node.inputs[0])[:2]) * (prod(known(node.inputs[1])) + prod(known(node.inputs[2])))


_COUNTS: Mapping[str, _Count] = {
    "Attention": _attention,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product,
    "RNN": _recurrent,
}
