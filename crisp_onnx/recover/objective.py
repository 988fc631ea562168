"""What recovery minimises: the user's labels where there are some, and the untouched model's answers always.

L = CE(z_U, y) with label smoothing + w T^2 KL(softmax(t / T) || softmax(s / T)), z_U the user's logits. With the head
kept, the second term runs over all outputs, so that the other classes' logits do not drift above the user's. Outputs
beside the one that is judged add such a term each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crisp_onnx.recover.task import Task
from crisp_onnx.task.loss import imitation_loss, logits_of, truth_loss, wanted_logits

SMOOTHING = 0.05
DISTILLATION_WEIGHT = 2.0
TEMPERATURE = 2.0


def objective(student: Sequence[Tensor], teacher: Sequence[Tensor], labels: Tensor | None, task: Task) -> Tensor:
    """Mean loss of a batch from what both models answer in each output that matters, the judged one first."""
    answers, losses = task.answers, []
    for each, own, taught in zip(answers.every, student, teacher, strict=True):
        given, wanted = logits_of(own, each), logits_of(taught, each)
        if each is answers and labels is not None:
            losses.append(truth_loss(given, labels, each, smoothing=SMOOTHING))
        if each is answers and not task.all_outputs:
            given, wanted = wanted_logits(given, each), wanted_logits(wanted, each)
        losses.append(DISTILLATION_WEIGHT * imitation_loss(given, wanted, each, temperature=TEMPERATURE))
    return torch.stack(losses).sum()
