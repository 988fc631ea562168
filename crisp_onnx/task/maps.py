"""Find the outputs of a graph that score the classes of every pixel, and say of each other output why it does not.

Such an output holds a map of scores for each class: (n, C, h, w), or (n, h, w, C) as exports from TensorFlow have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs

from crisp_onnx.model import Model
from crisp_onnx.task.head import Head, Maps, Outputs
from crisp_onnx.task.outputs import head_of, no_scores
from crisp_onnx.task.trace import activation_before

CLASS_AXES = (1, 3)
KEEPING_AXES = frozenset(
    (
        "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "Dropout", "Mul", "Div", "Add", "Sub", "Exp", "Log",
        "Resize", "Upsample", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "Clip", "Relu",
    )
)  # fmt: skip


def read_maps(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Outputs:
    """What each output of `model` is. `shapes`: of its tensors, for one image or the batch that the file fixes."""
    graph = model.view
    image = shapes.get(model.input.name) or model.input.shape
    untensored = {tensor.name for tensor in graph.outputs} - {spec.name for spec in model.outputs}
    heads: list[Head] = []
    others: dict[str, str] = {}
    for tensor in graph.outputs:
        shape = shapes.get(tensor.name)
        axis = None if shape is None else _class_axis(tensor, shape, image)
        reason = no_scores(tensor, untensored) or _obstacle(tensor, shape, axis, image)
        if not reason and shape is not None and axis is not None:
            before, _ = activation_before(tensor)
            dims = None if before is None else shapes.get(before.logits.name)
            over = None if before is None or before.axes is None or dims is None else before.axes
            if (
                over is not None
                and dims is not None
                and before is not None
                and not _over_classes(before.logits, [each % len(dims) for each in over], dims, shape[axis])
            ):
                reason = f"the Softmax of {tensor.name!r} does not add up over the classes"
            else:
                heads.append(head_of(tensor, shape[axis], Maps(_grid(shape, axis), axis), as_is=dims != shape))
        if reason:
            others[tensor.name] = reason
    return Outputs(tuple(heads), (), others)


def _class_axis(tensor: gs.Tensor, shape: Sequence[int], image: Sequence[int | None]) -> int | None:
    """The axis along which classes lie: the two others are the image's sides or a whole part of them.

    Where that holds of both axes, as with 16 classes of 16x16 pixels, the graph says which one.
    """
    sides = _sides(shape, image)
    fitting = [axis for axis in _axes(image) if sides and _covers(_grid(shape, axis), sides)]
    if len(fitting) > 1 and (told := _told_axis(tensor)) in fitting:
        return told
    return next(iter(fitting), None)


def _over_classes(scores: gs.Tensor, over: Sequence[int], dims: Sequence[int], classes: int) -> bool:
    """Whether a softmax of `scores`, of the shape `dims`, along the axes `over` adds up over the classes."""
    told = _told_axis(scores) if len(dims) == 4 else None
    return all(dims[axis] == classes and told in (None, axis) for axis in over)


def _told_axis(tensor: gs.Tensor) -> int | None:
    """Where the channels of the last convolution have come to lie; None behind anything that may mix them."""
    places = [0, 1, 2, 3]  # of each axis, the axis of the convolution's output that it was
    while tensor.inputs:
        node = tensor.inputs[0]
        if node.op in ("Conv", "ConvTranspose"):
            return places.index(1)
        if node.op == "Transpose" and len(perm := node.attrs.get("perm", [3, 2, 1, 0])) == len(places):
            places = [perm[place] for place in places]
        elif node.op not in KEEPING_AXES:
            return None
        tensor = next((i for i in node.inputs if i.inputs), node.inputs[0])
    return None


def _sides(shape: Sequence[int], image: Sequence[int | None]) -> tuple[int, int] | None:
    if len(shape) != 4 or len(image) != 4:
        return None
    height, width = image[1:3] if _axes(image)[0] == 3 else image[2:4]
    return (height, width) if height and width else None


def _axes(image: Sequence[int | None]) -> tuple[int, ...]:
    """The axes of classes, the likelier first."""
    return CLASS_AXES[::-1] if len(image) == 4 and image[3] in (1, 3) and image[1] not in (1, 3) else CLASS_AXES


def _grid(shape: Sequence[int], axis: int) -> tuple[int, int]:
    return (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])


def _covers(grid: tuple[int, int], sides: tuple[int, int]) -> bool:
    """Whether a map of these sides is one of the whole image: of every k-th pixel, or k times as fine.

    Strides round: 513 pixels make 65 places of 8. A map whose sides are no such part, 388 of 572, is the image's centre
    that convolutions without padding leave, and its places would be taken for others.
    """
    if min(grid) < 2:
        return False
    if all(places >= side and places % side == 0 for places, side in zip(grid, sides, strict=True)):
        return grid[0] * sides[1] == grid[1] * sides[0]
    steps = {round(side / places) for places, side in zip(grid, sides, strict=True)}
    return any(
        step > 1 and all(abs(step * places - side) <= step for places, side in zip(grid, sides, strict=True))
        for step in steps
    )


def _obstacle(tensor: gs.Tensor, shape: tuple[int, ...] | None, axis: int | None, image: Sequence[int | None]) -> str:
    output = repr(tensor.name)
    if shape is None:
        return f"the shape of {output} is not known"
    sides = _sides(shape, image)
    if axis is None and sides and min(_grid(shape, _axes(image)[0])) > 1:
        grid = _grid(shape, _axes(image)[0])
        return (
            f"{output} gives {grid[0]}x{grid[1]} places for an image of {sides[0]}x{sides[1]}, which is no whole part "
            "of it: maybe its centre alone, as convolutions without padding leave it; pad them, or resize the answers "
            "to the image in the graph"
        )
    if axis is None:
        row = " --task classification takes a row an image" if len(shape) == 2 else ""
        return (
            f"{output} has the shape {shape}, which is not a map of scores for each class, (n, C, h, w) with the sides "
            f"of the image or a part of them{';' + row if row else ''}"
        )
    if shape[axis] == 1:
        return (
            f"{output} holds a single number a pixel, so that there are no classes to choose among; export two maps, "
            "one of them the background's"
        )
    return ""
