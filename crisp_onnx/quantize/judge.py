"""What a model in int8 loses against itself in float32, on images that nothing was fitted to."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crisp_onnx.data import Images
from crisp_onnx.model import Model, save
from crisp_onnx.runtime.evaluate import Floats, open_stock, outputs_of
from crisp_onnx.task import Classification
from crisp_onnx.task.score import preferred, wanted_scores

BATCH = 32
TINY = 1e-30


@dataclass(frozen=True)
class Loss:
    """`points`: right answers among the user's classes that go, in points; without labels, answers that change.

    `expected`: how far the probabilities of these classes move, in points, and `spread` its standard error over the
    images. It is half the squared distance, which is by how much the Brier score gets worse if the probabilities in
    float32 are right (1950, Monthly Weather Review 78): 100 for an image whose certain answer becomes another one. Of
    30 images none may change its answer while one in 30 others would; this shows it. `error`: RMS of the difference
    between the scores, over that of the scores about their mean.
    """

    points: float
    expected: float
    spread: float
    error: float

    @property
    def lost(self) -> float:
        """What decides, in points: what is counted or what is expected, whichever is more."""
        return max(self.points, self.expected)

    @property
    def rank(self) -> tuple[float, float]:
        """The least comes first."""
        return self.lost, self.error


class Judge:
    """Compares models with `model`, in stock ONNX Runtime: what a file loses must not depend on this machine's kernels.

    `task`: what the model's outputs mean.
    """

    def __init__(self, model: Model, images: Images, task: Classification) -> None:
        self.model, self.images, self.task = model, images, task

    def loss(self, other: Model) -> Loss:
        scores, expected = self._scores(other), self._expected
        changed = scores - expected
        spread = float(np.sqrt(np.mean((expected - expected.mean()) ** 2))) or 1.0
        error = float(np.sqrt(np.mean(changed.astype(np.float64) ** 2))) / spread
        if not np.isfinite(scores).all():
            return Loss(100.0, 100.0, 0.0, float("inf"))
        points = 100 * (self._right(expected) - self._right(scores))
        moved = 50 * np.square(self._probabilities(expected) - self._probabilities(scores)).sum(1)
        return Loss(points, float(moved.mean()), float(moved.std()) / len(moved) ** 0.5, error)

    @cached_property
    def _expected(self) -> Floats:
        return self._scores(self.model)

    def _right(self, scores: Floats) -> float:
        """Share of right answers among the user's classes; without labels, the float32 model's answers are right."""
        labels = self.images.labels if self.images.labels is not None else self._answers(self._expected)
        return float((self._answers(scores) == labels).mean())

    def _probabilities(self, scores: Floats) -> npt.NDArray[np.float64]:
        """(n, k): of the classes that `_answers` chooses from."""
        several = len(self.task.wanted) > 1
        rows = (wanted_scores(scores, self.task) if several else self.task.rows(scores)).astype(np.float64)
        probable = self.task.form == "probabilities"
        shares = np.maximum(rows, 0) + TINY if probable else np.exp(rows - rows.max(1, keepdims=True))
        found: npt.NDArray[np.float64] = shares / shares.sum(1, keepdims=True)
        return found

    def _answers(self, scores: Floats) -> npt.NDArray[np.int64]:
        """The class that each row prefers: among the user's, or among all where the user has one."""
        found = preferred(scores, self.task)
        return found.wanted if len(self.task.wanted) > 1 else found.all

    def _scores(self, model: Model) -> Floats:
        with tempfile.TemporaryDirectory(prefix="crisp-judge-") as folder:
            path = Path(folder) / "model.onnx"
            save(model, path)
            session = open_stock(path)
            rows = [outputs_of(session, inputs, self.task.output) for inputs, _ in self.images.batches(BATCH)]
        return np.concatenate(rows)
