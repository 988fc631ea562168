"""Put zeros where channels are to be removed: the graph that every other form of the removal must equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.groups import Removal, removed_indices
from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import PassResult


class MaskChannels:
    """Every computed tensor that carries channels of `removals` has zeros there, behind each node that writes it.

    `shapes`: of all tensors of the graph, for one image.
    """

    name = "mask_channels"

    def __init__(self, removals: Sequence[Removal], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.removed, self.shapes = removed_indices(removals), shapes

    def run(self, graph: gs.Graph) -> PassResult:
        taken, tensors, changed = used_names(graph), graph.tensors(), 0
        for (name, axis), indices in self.removed.items():
            tensor = tensors.get(name)
            if not isinstance(tensor, gs.Variable) or not tensor.inputs or not _is_float(tensor):
                continue
            shape = self.shapes[name]
            if _shared_with_images(tensor, axis, shape[axis]):
                continue  # the tensors before and behind have zeros
            kept = np.ones(shape[axis], bool)
            kept[indices] = False
            spread = [1] * len(shape)
            spread[axis] = -1
            mask = gs.Constant(fresh_name(taken, f"{name}.kept"), kept.reshape(spread))
            zero = gs.Constant(fresh_name(taken, f"{name}.zero"), np.zeros((), tensor.dtype or np.float32))
            whole = gs.Variable(fresh_name(taken, f"{name}.whole"), tensor.dtype, tensor.shape)
            writer = tensor.inputs[0]
            writer.outputs = [whole if out is tensor else out for out in writer.outputs]
            called = fresh_name(taken, f"{name}.mask")  # a tensor may lose channels along two of its axes
            graph.nodes.append(gs.Node("Where", called, inputs=[mask, whole, zero], outputs=[tensor]))
            changed += 1
        return PassResult(changed)


def _shared_with_images(tensor: gs.Variable, axis: int, length: int) -> bool:
    """Whether the axis holds so many channels of each image, as where heads and batch are one; the first, in doubt."""
    told = tensor.shape[axis] if tensor.shape else None
    return told != length and (axis == 0 or isinstance(told, str))


def _is_float(tensor: gs.Variable) -> bool:
    return tensor.dtype is None or np.dtype(tensor.dtype).kind == "f"
