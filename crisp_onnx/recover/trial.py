"""`Trial`: what images lose under the masks of a plan, with nothing trained and nothing re-fitted."""

from __future__ import annotations

import copy

import numpy as np

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.recover.masking import put_masks
from crisp_onnx.recover.patience import held_out_loss
from crisp_onnx.recover.start import trained_tensors
from crisp_onnx.recover.state import copied, restore
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Task


class Trial:
    """`module` is the dense network, its own teacher, and is left as it is.

    Statistics of BatchNorm are re-estimated for each plan on some of the `images`; `judged` are those that are
    answered. At most `most` of each are used.
    """

    def __init__(
        self, module: GraphModule, images: Images, judged: Images, task: Task, *, batch_size: int, most: int, seed: int
    ) -> None:
        self.task, self.batch_size, self.most = task, batch_size, most
        self._student, self._teacher = copy.deepcopy(module), copy.deepcopy(module).eval().requires_grad_(False)
        self._whole = copied(trained_tensors(self._student))
        self._images, self._judged = (some_of(each, most, seed) for each in (images, judged))

    def loss(self, plan: Plan) -> float:
        """What recovery would minimise, but for features, under the plan's masks."""
        restore(trained_tensors(self._student), self._whole)
        put_masks(self._student, plan, self.task.weights)
        reestimate(self._student, self._images, batch_size=self.batch_size, limit=self.most)
        return held_out_loss(self._student, self._teacher, self._judged, self.task, batch_size=self.batch_size)


def some_of(images: Images, most: int, seed: int) -> Images:
    """At most so many, drawn at random, in their order."""
    return images.subset(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]))
