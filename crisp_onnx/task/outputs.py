"""Find the outputs of a graph that score classes, and say of each other output why it does not.

An output scores classes when it holds one row of numbers an image and a column stands for a class: a classifier's
logits, or what Softmax or Sigmoid makes of them. One whose columns only feed the classifier of another is its features.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.model import Model
from crisp_onnx.task.head import Form, Head, Maps, Outputs
from crisp_onnx.task.trace import activation_before, classifier_of, feeds, moved_from

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
        if any(feeds(tensor, head, other, layers) for other, _ in found if other is not head)
    )
    return Outputs(tuple(head for head, _ in found if head not in features), features, others)


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
    behind = moved_from(tensor)
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
    classifier = tuple(node.name for node in classifier_of(tensor, classes))
    found, pooled = activation_before(tensor)
    if found is None:
        return Head(tensor.name, "logits", classes, classifier, tensor.name, "logits", True, maps)
    form: Form = "log-probabilities" if found.log else "probabilities"
    exclusive = found.kind == "softmax"
    if pooled or as_is:  # a mean of shares is no share of a mean, so the output is read as it is
        return Head(tensor.name, form, classes, classifier, tensor.name, form, exclusive, maps)
    return Head(tensor.name, form, classes, classifier, found.logits.name, "logits", exclusive, maps)
