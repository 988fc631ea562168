"""The table of reconstructions: what becomes of the weights that a plan keeps, before anything is trained."""

from __future__ import annotations

from typing import Protocol

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct.gathering import FIT, Look
from crisp_onnx.reconstruct.least_squares import least_squares
from crisp_onnx.reconstruct.refitted import Refitted


class Reconstruct(Protocol):
    """A method's function."""

    def __call__(
        self, student: GraphModule, plan: Plan, images: Images, judged: Images, *, choice: str, batch_size: int,
        look: Look = FIT, seed: int = 0,
    ) -> Refitted:  # fmt: skip
        """Re-fit `student`, which has the plan's masks, in place.

        `judged`: images that the fit does not learn from, which choose between several. `choice`: how masks are chosen
        anew, one of `CHOICES`. `look`: at how many images.
        """


def leave(
    student: GraphModule, plan: Plan, images: Images, judged: Images, *, choice: str, batch_size: int,
    look: Look = FIT, seed: int = 0,
) -> Refitted:  # fmt: skip
    """The weights stay as they are, and so do the masks."""
    return Refitted(plan)


METHODS: dict[str, Reconstruct] = {"none": leave, "least-squares": least_squares}
