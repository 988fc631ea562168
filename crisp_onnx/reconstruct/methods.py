"""The table of reconstructions: what becomes of the weights that a plan keeps, before anything is trained."""

from __future__ import annotations

from typing import Protocol

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct.layer_fit import LayerFit
from crisp_onnx.reconstruct.least_squares import least_squares


class Reconstruct(Protocol):
    """A method's function."""

    def __call__(
        self, student: GraphModule, plan: Plan, images: Images, judged: Images, *, batch_size: int, seed: int = 0
    ) -> tuple[LayerFit, ...]:
        """Re-fit `student`, which has the plan's masks, in place; return how each layer was.

        `judged`: images that the fit does not learn from, which choose between several.
        """


def leave(
    student: GraphModule, plan: Plan, images: Images, judged: Images, *, batch_size: int, seed: int = 0
) -> tuple[LayerFit, ...]:
    """The weights stay as they are."""
    return ()


METHODS: dict[str, Reconstruct] = {"none": leave, "least-squares": least_squares}
