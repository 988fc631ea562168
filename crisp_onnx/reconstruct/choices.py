"""The table of choices: which weights of a layer stay, once its inputs and the number of its blocks are known."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from crisp_onnx.masks import SparseLayer
from crisp_onnx.reconstruct.alps import alps
from crisp_onnx.reconstruct.evidence import Evidence
from crisp_onnx.reconstruct.obs import obs

RIDGE = 0.01
"""Of the mean square of the layer's inputs: the pull to the old weights while masks are chosen."""


class Choose(Protocol):
    """A choice's function."""

    def __call__(self, gram: Tensor, cross: Tensor, weight: Tensor, planned: SparseLayer) -> SparseLayer:
        """The planned layer under other masks of as many weights.

        Args:
            gram: H with the ridge (K, K), positive definite, in float64.
            cross: G with the pull to the old weights (K, Cout).
            weight: the dense weights (Cout, K).
        """


CHOICES: dict[str, Choose | None] = {"saliency": None, "obs": obs, "alps": alps}
"""`saliency`: the masks stay those that the plan has from the criterion."""


def chosen(choice: str, known: Evidence, weight: Tensor, planned: SparseLayer) -> SparseLayer:
    """The layer's masks by that choice. A layer too wide for X^T X, or without any input, keeps the planned ones.

    `weight`: (Cout, K) in float64.
    """
    choose, moments = CHOICES[choice], known.moments()
    if choose is None or moments is None or not known.scale > 0:
        return planned
    gram, cross = moments
    ridge = RIDGE * known.scale
    gram.diagonal().add_(ridge)
    return choose(gram, cross + ridge * weight.T, weight, planned)
