"""Find the outputs of a graph that score the classes of every pixel, and say of each other output why it does not.

Such an output holds a map of scores for each class: (n, C, h, w), or (n, h, w, C) as exports from TensorFlow have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs

from crisp_onnx.model import Model
from crisp_onnx.task.head import Head, Maps, Outputs, activation_before, head_of, no_scores

CLASS_AXES = (1, 3)


def read_maps(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Outputs:
    """What each output of `model` is. `shapes`: of its tensors, for one image or the batch that the file fixes."""
    graph = model.graph()
    image = shapes.get(model.input.name) or model.input.shape
    untensored = {tensor.name for tensor in graph.outputs} - {spec.name for spec in model.outputs}
    heads: list[Head] = []
    others: dict[str, str] = {}
    for tensor in graph.outputs:
        shape = shapes.get(tensor.name)
        axis = None if shape is None else _class_axis(shape, image)
        reason = no_scores(tensor, untensored) or _obstacle(tensor, shape, axis)
        if not reason and shape is not None and axis is not None:
            before, _ = activation_before(tensor)
            dims = None if before is None else shapes.get(before.logits.name)
            over = None if before is None or before.axes is None or dims is None else before.axes
            if over is not None and dims is not None and any(dims[each % len(dims)] != shape[axis] for each in over):
                reason = f"the Softmax of {tensor.name!r} does not add up over the classes"
            else:
                grid = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
                heads.append(head_of(tensor, shape[axis], Maps(grid, axis), as_is=dims != shape))
        if reason:
            others[tensor.name] = reason
    return Outputs(tuple(heads), (), others)


def _class_axis(shape: Sequence[int], image: Sequence[int | None]) -> int | None:
    """The axis along which classes lie: the two others are as wide to high as the image."""
    if len(shape) != 4 or len(image) != 4:
        return None
    channels_last = image[3] in (1, 3) and image[1] not in (1, 3)
    sides = image[1:3] if channels_last else image[2:4]
    for axis in CLASS_AXES[::-1] if channels_last else CLASS_AXES:
        height, width = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
        if None not in sides and height * int(sides[1] or 0) == width * int(sides[0] or 0) and min(height, width) > 1:
            return axis
    return None


def _obstacle(tensor: gs.Tensor, shape: tuple[int, ...] | None, axis: int | None) -> str:
    output = repr(tensor.name)
    if shape is None:
        return f"the shape of {output} is not known"
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
