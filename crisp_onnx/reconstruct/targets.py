"""The rows that a layer is fitted to: what it reads in the student, and what its outputs should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, Node
from crisp_onnx.model import WeightLayer
from crisp_onnx.reconstruct.behind import Behind, scale_of
from crisp_onnx.reconstruct.frontier import Seen
from crisp_onnx.reconstruct.samples import input_rows, output_rows, row_count


@dataclass(frozen=True, eq=False)
class Rows:
    """Of one batch: inputs (m, K) and outputs (m, Cout) without the layer's own bias, in float32."""

    judged: bool
    x: Tensor
    y: Tensor


def rows_of(
    student: GraphModule,
    layer: WeightLayer,
    node: Node,
    after: Behind,
    seen: Iterable[Seen],
    rows_an_image: tuple[float, float],
    generator: torch.Generator,
) -> Iterator[Rows]:
    """Rows at positions drawn from each batch. `rows_an_image`: of images that are learnt from, and of judged ones.

    The outputs are those of the dense network and, where they are added to another branch, what that branch misses in
    the student by now, as it is in front of the BatchNorm.
    """
    own = own_bias(student, node)
    scale = None if after.norm is None else scale_of(student, after.norm).float()
    for batch in seen:
        given, answered = batch.student[node.inputs[0]], batch.teacher[node.outputs[0]]
        wanted = max(1, round(rows_an_image[batch.judged] * batch.images))
        at = torch.randperm(row_count(layer, answered), generator=generator)[:wanted].to(given.device)
        y = output_rows(layer, answered, at) - own
        if after.addend is not None and batch.teacher[after.addend].shape == answered.shape:
            missed = output_rows(layer, batch.teacher[after.addend] - batch.student[after.addend], at)
            y = y + (missed if scale is None else missed / scale)
        yield Rows(batch.judged, input_rows(layer, node, given, answered, at), y)


def own_bias(student: GraphModule, node: Node) -> Tensor:
    """(Cout,) or (1,): what the layer itself adds to its outputs."""
    parameters = dict(student.named_parameters())
    bias = parameters.get(node.inputs[2]) if len(node.inputs) > 2 else None
    return torch.zeros(1, device=next(student.parameters()).device) if bias is None else bias.detach().reshape(-1)
