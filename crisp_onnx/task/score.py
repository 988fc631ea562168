"""The task in NumPy: which class a file's answers prefer, over all its columns and among the user's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.task.classification import Classification

ROUNDING = 0.01

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Preferred:
    """The class (n,) that each row prefers, over `all` columns and among those `wanted` by the user."""

    all: Indices
    wanted: Indices


def wanted_scores(answers: Floats, task: Classification) -> Floats:
    """(n, ...) -> (r, k): the scores of the user's classes, in their order."""
    rows: Floats = task.rows(answers)[:, list(task.places)]
    return rows


def shares_of_wanted(answers: Floats, task: Classification) -> Floats:
    """(n, ...) -> (n, k) as a head that is cut down to the user's classes answers.

    Shares of a Softmax add up to 1, or to what all of them add up to: 100 where the file gives percent.
    """
    scores = wanted_scores(answers, task)
    if task.form == "logits" or not task.exclusive:
        return scores
    largest: Floats = scores.max(1, keepdims=True)
    shares: Floats = scores if task.form == "probabilities" else np.exp(scores - largest)
    total: Floats = np.maximum(shares.sum(1, keepdims=True), np.finfo(scores.dtype).tiny)
    if task.form != "probabilities":
        return scores - largest - np.log(total)
    whole = task.rows(answers).sum(1, keepdims=True, dtype=np.float64)
    # A sum of 1 that only rounding, of half precision for one, keeps from it is 1.
    scale = np.where(np.abs(whole - 1) < ROUNDING, 1, whole).astype(scores.dtype)
    return shares / total * scale


def preferred(answers: Floats, task: Classification) -> Preferred:
    """What the answers (n, ...) of the task's output say."""
    columns, wanted = np.asarray(task.columns), np.asarray(task.wanted)
    return Preferred(columns[task.rows(answers).argmax(1)], wanted[wanted_scores(answers, task).argmax(1)])
