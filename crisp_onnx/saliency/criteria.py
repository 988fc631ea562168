"""The table of criteria: what each needs to know beside the weight, and how it scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.saliency import act_l2, crisp, firing, fisher, magnitude, random, wanda

Statistic = Literal["gradient_abs", "gradient_square", "input_norm", "input_l2", "input_firing", "uniform", "nothing"]
OF_INPUTS = ("input_norm", "input_l2", "input_firing")


@dataclass(frozen=True)
class Criterion:
    """`score(weight, statistic)` gives a saliency in the weight's shape; `needs` names the statistic."""

    name: str
    needs: Statistic
    score: Callable[[Tensor, Tensor], Tensor]

    @property
    def from_gradients(self) -> bool:
        return self.needs in ("gradient_abs", "gradient_square")

    @property
    def from_images(self) -> bool:
        return self.from_gradients or self.needs in OF_INPUTS


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion("crisp", "gradient_abs", crisp.score),
        Criterion("fisher", "gradient_square", fisher.score),
        Criterion("magnitude", "nothing", magnitude.score),
        Criterion("wanda", "input_norm", wanda.score),
        Criterion("act-l2", "input_l2", act_l2.score),
        Criterion("firing", "input_firing", firing.score),
        Criterion("random", "uniform", random.score),
    )
}


def criterion_named(name: str) -> Criterion:
    """Look a criterion up.

    Raises:
        CrispError: unknown name; the nearest are listed.
    """
    if name not in CRITERIA:
        raise CrispError(f"{name!r} is no saliency.{nearest(name, CRITERIA)} Known: {', '.join(CRITERIA)}.")
    return CRITERIA[name]
