"""The task in torch: logits, their loss against the truth or another model, the truth that a model itself suggests."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.task.classification import Classification

SMALLEST_SHARE = 1e-12
UNCOUNTED = -1
"""The label of a row that has none of the user's classes."""


def logits_of(answers: Tensor, task: Classification) -> Tensor:
    """What the module answers (n, ...) as logits (r, columns), a row for each image or, in a segmentation, pixel."""
    rows: Tensor = task.rows(answers).float()
    if task.logits_form == "logits":
        return rows
    logs = rows if task.logits_form == "log-probabilities" else rows.clamp_min(SMALLEST_SHARE).log()
    return logs if task.exclusive else logs - (1 - logs.exp()).clamp_min(SMALLEST_SHARE).log()


def wanted_logits(logits: Tensor, task: Classification) -> Tensor:
    """(n, columns) -> (n, k): those of the user's classes, in their order."""
    return logits.index_select(1, _tensor(task.places, logits))


def preferred(logits: Tensor, task: Classification) -> Tensor:
    """The class (n,) that each row prefers among the user's."""
    return _tensor(task.wanted, logits)[wanted_logits(logits, task).argmax(1)]


def truths_of(logits: Tensor, labels: Tensor | None, task: Classification) -> Tensor:
    """The class (r,) of each row (r, columns), `UNCOUNTED` where it is none of the user's.

    Without labels, the class that the row itself prefers among those that the task lets a model suggest.
    """
    own = replace(task, wanted=task.suggested)
    truths = preferred(logits, own) if labels is None else task.truths(labels)
    return torch.where(torch.isin(truths, _tensor(task.wanted, truths)), truths, UNCOUNTED)


def truth_loss(logits: Tensor, labels: Tensor, task: Classification, *, smoothing: float = 0.0) -> Tensor:
    """Mean loss of rows (r, columns) against their classes: over the user's classes alone.

    `labels`: (r,), or as the task has them for whole images. Rows of other classes do not count; where none does, the
    loss is 0.

    Cross-entropy where classes exclude each other. A restricted softmax of one class is constant, so all columns take
    part then. Otherwise binary cross-entropy, its mean over the classes.
    """
    labels = task.truths(labels)
    counted = torch.isin(labels, _tensor(task.wanted, labels))
    logits, labels = logits[counted], labels[counted]
    if not len(labels):
        return logits.sum()
    own, places = wanted_logits(logits, task), _places(labels, task.wanted)
    if not task.exclusive:
        target = functional.one_hot(places, len(task.wanted)).to(own) * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(own, target)
    if len(task.wanted) == 1:
        return functional.cross_entropy(logits, _places(labels, task.columns), label_smoothing=smoothing)
    return functional.cross_entropy(own, places, label_smoothing=smoothing)


def imitation_loss(student: Tensor, teacher: Tensor, task: Classification, *, temperature: float) -> Tensor:
    """T^2 KL(teacher / T || student / T) of two sets of rows of logits (r, any columns), the mean over the rows.

    Where classes do not exclude each other, the sum over the columns of the divergence of each.
    """
    if task.exclusive:
        logs = [functional.log_softmax(logits / temperature, 1) for logits in (student, teacher)]
    else:  # there or not: two shares a column
        both = [torch.stack([logits, -logits], 1) / temperature for logits in (student, teacher)]
        logs = [functional.logsigmoid(logits) for logits in both]
    return temperature**2 * functional.kl_div(logs[0], logs[1], log_target=True, reduction="batchmean")


def _places(labels: Tensor, among: tuple[int, ...]) -> Tensor:
    """Classes (n,) -> their places in `among` (n,)."""
    return (labels[:, None] == _tensor(among, labels)[None]).int().argmax(1)


def _tensor(values: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=like.device)
