"""What recovery minimises: the user's labels where there are some, and the untouched model's answers always.

L = CE(z_U, y) with label smoothing + w T^2 KL(softmax(t / T) || softmax(s / T)), z_U the user's logits. With the head
kept, the second term runs over all outputs, so that the other classes' logits do not drift above the user's.
"""

from __future__ import annotations

from torch import Tensor

from crisp_onnx.task import Classification
from crisp_onnx.task.loss import imitation_loss, truth_loss, wanted_logits

SMOOTHING = 0.05
DISTILLATION_WEIGHT = 2.0
TEMPERATURE = 2.0


def objective(
    student: Tensor, teacher: Tensor, labels: Tensor | None, answers: Classification, *, all_outputs: bool
) -> Tensor:
    """Mean loss of a batch from logits (n, columns) of both models."""
    pair = (student, teacher) if all_outputs else (wanted_logits(student, answers), wanted_logits(teacher, answers))
    loss = DISTILLATION_WEIGHT * imitation_loss(*pair, answers, temperature=TEMPERATURE)
    return loss if labels is None else loss + truth_loss(student, labels, answers, smoothing=SMOOTHING)
