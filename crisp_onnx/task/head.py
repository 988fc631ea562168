"""Find the outputs of a graph that score classes, and say of each other output why it does not.

An output scores classes when it holds one row of numbers an image and a column stands for a class: a classifier's
logits, or what Softmax or Sigmoid makes of them. One whose columns only feed the classifier of another is its features.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.model import Model
from crisp_onnx.model.layers import WEIGHT_OPS
from crisp_onnx.task.activation import Activation, activation_of

Form = Literal["logits", "probabilities", "log-probabilities"]

# Operators that move or retype numbers and keep one column a class.
_MOVING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout"})
# Operators that take means of their inputs.
_POOLING = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean", "Resize", "Upsample"})
_SCALING = frozenset({"Mul", "Div", "Add", "Sub", "Clip"})
_MEASURING = frozenset({"Shape", "Size"})
_ORDERING = {
    "TopK": "TopK sorts the scores, so that a column of {output} is a place and not a class",
    "ArgMax": "{output} is the number of the best class (ArgMax) and not a score of each",
    "ArgMin": "{output} is the number of a class (ArgMin) and not a score of each",
    "NonMaxSuppression": "{output} lists detections",
    "NonZero": "{output} lists places",
    "Unique": "{output} is a sorted list of values",
    "Hardmax": "{output} says which class is best (Hardmax) and not how sure it is",
    "OneHot": "{output} says which class is best (OneHot) and not how sure it is",
}


@dataclass(frozen=True)
class Maps:
    """How scores of pixels lie: `grid`, height and width of the answers, and the axis along which classes lie."""

    grid: tuple[int, int]
    class_axis: int


@dataclass(frozen=True)
class Head:
    """An output that scores classes.

    `output`: its name. `form`: what its numbers are. `classes`: the number of its columns. `classifier`: names of the
    layers whose rows are the classes; empty where none was found.

    `logits`: the tensor that training reads, as `logits_form` says: what goes into the Softmax or Sigmoid, or the
    output itself. `exclusive`: an image has one class (Softmax, plain logits), or any number of them (Sigmoid).

    `maps`: the output scores the classes of pixels, and how; None for those of whole images.

    `beside`: other outputs whose answers matter too, as the untouched model gives them.
    """

    output: str
    form: Form
    classes: int
    classifier: tuple[str, ...]
    logits: str
    logits_form: Form
    exclusive: bool
    maps: Maps | None = None
    beside: tuple[Head, ...] = ()

    @property
    def trained(self) -> tuple[str, ...]:
        """The tensors that training reads: of this output, then of those beside it."""
        return (self.logits, *(head.logits for head in self.beside))

    @property
    def described(self) -> str:
        """For a message: `'probs' (6 classes, probabilities)`."""
        scores = self.form if self.exclusive else "independent probabilities" if self.form != "logits" else "logits"
        pixels = "" if self.maps is None else f" of {self.maps.grid[0]}x{self.maps.grid[1]} pixels"
        return f"{self.output!r} ({self.classes} classes, {scores}{pixels})"


@dataclass(frozen=True)
class Outputs:
    """What every output of a graph is: `heads` that score classes, and why each of the `others` does not, by name.

    `features`: rows that the classifier of a head reads; they are heads only where the user says so.
    """

    heads: tuple[Head, ...]
    features: tuple[Head, ...]
    others: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return (*(head.output for head in (*self.heads, *self.features)), *self.others)

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    def chosen(self, names: Sequence[str], where: str) -> Head:
        """The head of the output named first, with those named behind it beside it; or the only one.

        Raises:
            CrispError: no such output, one that does not score classes, or none or several that do.
        """
        if names:
            first, *others = (self._named(name, where) for name in names)
            beside = {head.logits: head for head in others if head.logits != first.logits}
            return replace(first, beside=tuple(beside.values()))
        if not self.heads:
            reasons = "; ".join(self.others.values()) or "it has no output"
            raise CrispError(
                f"{where} cannot be judged by classes: {reasons}. Export the model with the scores of all classes as "
                "an output."
            )
        classifiers = {head.classifier or (head.output,) for head in self.heads}
        if len(classifiers) > 1:
            listed = " and ".join(head.described for head in self.heads)
            raise CrispError(
                f"{where} has several outputs that may score the classes: {listed}. Say which one with --output-name."
            )
        # Several outputs of one classifier say the same; probabilities may round to equal numbers, logits do not.
        return min(self.heads, key=lambda head: head.form != "logits")

    def notes(self, head: Head, cut: Sequence[str] = ()) -> tuple[str, ...]:
        """What a user should know of the choice of `head`. `cut`: outputs that are cut down together with it."""
        notes = [f"The classes are judged by output {head.described}."]
        if head.beside:
            listed = " and ".join(other.described for other in head.beside)
            notes.append(f"What the untouched model answers in {listed} counts too: masks and training heed it.")
        heeded = {head.output, *cut, *(other.output for other in head.beside)}
        rest = [other.described for other in self.heads if other.output not in heeded]
        rest += [f"{other.output!r} holds the features" for other in self.features if other.output not in heeded]
        rest += [reason for name, reason in self.others.items() if name not in cut]
        if cut:
            listed = ", ".join(map(repr, cut))
            notes.append(
                f"--head slice cuts {listed} down too: they answer for your classes alone, and a number of a class "
                "is its place in your class list."
            )
        if rest:
            notes.append(
                f"The other outputs stay as they are in the graph, but nothing looks after what they answer: "
                f"{'; '.join(rest)}. --output-name chooses another."
            )
        if not head.classifier:
            notes.append("No layer was found whose rows are the classes, so --head slice is not possible.")
        return tuple(notes)

    def _named(self, name: str, where: str) -> Head:
        for head in (*self.heads, *self.features):
            if head.output == name:
                return head
        if name in self.others:
            raise CrispError(f"Output {name!r} of {where} cannot be judged by classes: {self.others[name]}.")
        listed = ", ".join(map(repr, self.names))
        raise CrispError(f"{where} has no output {name!r}; it has {listed}.{nearest(name, self.names)}")


def read_outputs(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Outputs:
    """What each output of `model` is. `shapes`: of its tensors, for one image or the batch that the file fixes."""
    graph = model.view
    batch = model.input.shape[0] if model.input.shape else None
    # A Squeeze without axes takes the axis of a single image away, which an open batch has all the same.
    ranks = {spec.name: len(spec.shape) for spec in model.outputs if batch is None}
    untensored = {tensor.name for tensor in graph.outputs} - {spec.name for spec in model.outputs}
    found: list[tuple[Head, gs.Tensor]] = []
    others: dict[str, str] = {}
    for tensor in graph.outputs:
        shape = shapes.get(tensor.name)
        if shape is not None and len(shape) == 1 and ranks.get(tensor.name) == 2:
            shape = (1, *shape)
        reason = (
            no_scores(tensor, untensored) or _obstacle(tensor, shape, batch) or _wrong_softmax(tensor, shape, shapes)
        )
        if reason or shape is None:
            others[tensor.name] = reason
        else:
            found.append((head_of(tensor, max(shape[1:], default=shape[0])), tensor))
    layers = {node.name: node for node in graph.nodes}
    features = tuple(
        head
        for head, tensor in found
        if any(_feeds(tensor, head, other, layers) for other, _ in found if other is not head)
    )
    return Outputs(tuple(head for head, _ in found if head not in features), features, others)


def layers_behind(graph: gs.Graph, names: Sequence[str]) -> frozenset[str]:
    """Names of the nodes that the tensors of those names are computed from."""
    tensors = graph.tensors()
    waiting, found = [node for name in names for node in tensors[name].inputs], set()
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found.add(node.name)
            waiting += [producer for tensor in node.inputs for producer in tensor.inputs]
    return frozenset(found)


def columns_in(shape: Sequence[int], batch: int | None) -> int | None:
    """How many classes a tensor of that shape scores, one row an image; None where that is not what it holds.

    `batch`: the images that the file fixes; None where it leaves them open, and the shape is that for one image.
    """
    if len(shape) == 1:
        return shape[0] if batch == 1 else None
    wide = [side for side in shape[1:] if side != 1]
    if not shape or shape[0] != (batch or 1) or len(wide) > 1:
        return None
    return wide[0] if wide else 1


def no_scores(tensor: gs.Tensor, untensored: Container[str]) -> str:
    """Why an output holds no scores of classes whatever its shape, or an empty string."""
    output = repr(tensor.name)
    behind = _moved_from(tensor)
    producer = behind.inputs[0] if behind.inputs else None
    if producer is not None and producer.op in _ORDERING and behind is producer.outputs[0]:
        return _ORDERING[producer.op].format(output=output) + _scores_inside(producer)
    if tensor.name in untensored:
        return f"{output} holds a sequence or map and not a row of scores"
    if not tensor.inputs:
        return f"{output} is an input or a stored value"
    if tensor.dtype is not None and not np.issubdtype(np.dtype(tensor.dtype), np.floating):
        return f"{output} holds {np.dtype(tensor.dtype).name} values and not scores"
    return ""


def _obstacle(tensor: gs.Tensor, shape: tuple[int, ...] | None, batch: int | None) -> str:
    """Why an output of that shape does not score classes, or an empty string."""
    output = repr(tensor.name)
    if shape is None:
        return f"the shape of {output} is not known"
    columns = columns_in(shape, batch)
    if columns is None:
        maps = " (--task segmentation takes maps of scores)" if len(shape) == 4 else ""
        return f"{output} has the shape {shape}, which is not one row of class logits{maps}"
    if columns == 1:
        return f"{output} holds a single number an image, so that there are no classes to choose among"
    return ""


def _wrong_softmax(tensor: gs.Tensor, shape: tuple[int, ...] | None, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why the Softmax of an output of rows does not make them shares of the classes, or an empty string."""
    found, _ = activation_before(tensor)
    if shape is None or found is None or found.axes is None or found.logits.name not in shapes:
        return ""
    dims = shapes[found.logits.name]
    # The first axis counts images, whatever its length; a single axis can only hold classes.
    axes = [axis % len(dims) for axis in found.axes]
    over_classes = any(dims[axis] == max(shape[1:], default=shape[0]) and (axis or len(dims) == 1) for axis in axes)
    return "" if over_classes else f"the Softmax of {tensor.name!r} does not add up over the classes"


def _scores_inside(node: gs.Node) -> str:
    """A help: the tensor inside the graph that holds what was sorted or compared."""
    return f"; the scores are in the tensor {node.inputs[0].name!r} inside the graph"


def head_of(tensor: gs.Tensor, classes: int, maps: Maps | None = None, *, as_is: bool = False) -> Head:
    """The head of an output with so many classes. `as_is`: what goes into its activation lies in another way."""
    classifier = tuple(node.name for node in _classifier(tensor, classes))
    found, pooled = activation_before(tensor)
    if found is None:
        return Head(tensor.name, "logits", classes, classifier, tensor.name, "logits", True, maps)
    form: Form = "log-probabilities" if found.log else "probabilities"
    exclusive = found.kind == "softmax"
    if pooled or as_is:  # a mean of shares is no share of a mean, so the output is read as it is
        return Head(tensor.name, form, classes, classifier, tensor.name, form, exclusive, maps)
    return Head(tensor.name, form, classes, classifier, found.logits.name, "logits", exclusive, maps)


def activation_before(tensor: gs.Tensor) -> tuple[Activation | None, bool]:
    """The activation behind moving, rising scales and pooling, and whether there was pooling."""
    pooled = False
    while True:
        found = activation_of(tensor)
        if found is not None:
            return found, pooled
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None:
            return None, pooled
        pooled |= node.op in _POOLING
        if not (node.op in _MOVING | _POOLING or _rises(node)):
            return None, pooled
        tensor = next((i for i in node.inputs if i.inputs), node.inputs[0])


def _rises(node: gs.Node) -> bool:
    """Whether the node combines one tensor with stored single numbers in a way that keeps the order of its values."""
    if node.op not in _SCALING or sum(not isinstance(i, gs.Constant) for i in node.inputs if not i.is_empty()) != 1:
        return False
    stored = [i.values for i in node.inputs if isinstance(i, gs.Constant)]
    if any(values.size != 1 for values in stored):
        return False
    if node.op in ("Div", "Sub") and isinstance(node.inputs[0], gs.Constant):
        return False
    return node.op not in ("Mul", "Div") or all(float(values.reshape(())) > 0 for values in stored)


def _moved_from(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor whose numbers these are, before they were moved or retyped."""
    while tensor.inputs and tensor.inputs[0].op in _MOVING:
        tensor = tensor.inputs[0].inputs[0]
    return tensor


def _classifier(tensor: gs.Tensor, classes: int) -> list[gs.Node]:
    """The layers whose rows are the classes: of those met first on the ways back, the ones of as many rows.

    Layers that together have as many rows, one after the other, are a classifier in parts.
    """
    first = list(_first_layers(tensor))
    whole = [node for node in first if _rows(node) == classes]
    if whole:
        return whole
    return first if sum(map(_rows, first)) == classes else []


def _first_layers(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """Weight layers met first on every way back from `tensor`, in the order of finding."""
    waiting, seen = [tensor], set()
    while waiting:
        node = next(iter(waiting.pop(0).inputs), None)
        if node is None or id(node) in seen or node.op in _MEASURING:
            continue
        seen.add(id(node))
        if _is_layer(node):
            yield node
        else:
            waiting += node.inputs


def _feeds(tensor: gs.Tensor, head: Head, other: Head, layers: Mapping[str, gs.Node]) -> bool:
    """Whether what `head` is made of goes into the classifier of `other`."""
    if set(head.classifier) & set(other.classifier):
        return False
    behind: set[int] = set()
    waiting = [layers[name].inputs[0] for name in other.classifier]
    while waiting:
        tensor_behind = waiting.pop()
        if id(tensor_behind) in behind:
            continue
        behind.add(id(tensor_behind))
        waiting += [i for node in tensor_behind.inputs for i in node.inputs]
    own = list(_first_layers(tensor))
    if not behind:
        return False
    return id(_moved_from(tensor)) in behind or (bool(own) and all(id(n.outputs[0]) in behind for n in own))


def _is_layer(node: gs.Node) -> bool:
    """Whether its weight is stored. A caller may override one that is an input of the graph too."""
    if node.op not in WEIGHT_OPS or len(node.inputs) < 2:
        return False
    weight = node.inputs[1]
    return not weight.inputs and bool(weight.shape) and all(isinstance(side, int) for side in weight.shape)


def _rows(node: gs.Node) -> int:
    dims = node.inputs[1].shape
    return int(dims[-1] if node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0)) else dims[0])
