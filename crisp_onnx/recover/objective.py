"""What recovery minimises: the user's labels where there are some, and the untouched model's answers always.

L = CE(z_U, y) with label smoothing + w T^2 KL(softmax(t / T) || softmax(s / T)), z_U the user's logits. With the head
kept, the second term runs over all outputs, so that the other classes' logits do not drift above the user's.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from crisp_onnx.saliency.loss import places, restrict

SMOOTHING = 0.05
DISTILLATION_WEIGHT = 2.0
TEMPERATURE = 2.0


def objective(student: Tensor, teacher: Tensor, labels: Tensor | None, classes: Tensor, *, all_outputs: bool) -> Tensor:
    """Mean loss of a batch from logits (n, outputs) of both models."""
    own, theirs = restrict(student, classes), restrict(teacher, classes)
    loss = distillation(student, teacher) if all_outputs else distillation(own, theirs)
    if labels is not None and len(classes) > 1:
        loss = loss + functional.cross_entropy(own, places(labels, classes), label_smoothing=SMOOTHING)
    elif labels is not None:
        loss = loss + functional.cross_entropy(student, labels, label_smoothing=SMOOTHING)
    return loss


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """w T^2 KL(teacher || student), mean over the batch."""
    log_student = functional.log_softmax(student / TEMPERATURE, 1)
    log_teacher = functional.log_softmax(teacher / TEMPERATURE, 1)
    divergence = functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    return DISTILLATION_WEIGHT * TEMPERATURE**2 * divergence
