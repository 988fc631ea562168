"""Gates of channels: how far each is open, what the open ones cost, and what pushes them off the fence.

A continuous relaxation of which channels a network has (arXiv 2308.14605). A gate w = sigmoid(a s), with a score s of
its own, multiplies a channel; with w in the place of zeros and ones, the cost of the network is a smooth function of
scores. The ejector is small where scores are far from 0, on either side, so that gates end open or shut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.channels.extent import Floats, Ints

STEEPNESS = 5.0
GOING, STAYING = (0.1, 0.5), (1.0, 1.5)
"""First scores, from the least worth for its cost to the most: of channels that would go at once, and of the others."""
SPREAD = 1.0
"""Of the ejector, in scores."""


@dataclass(frozen=True, eq=False)
class Gates:
    """`owners` (gates,): the number of the group of each gate, of `groups` in all.

    `columns`: by weight name, the gate of each of its columns, in a shape that goes with the stored weight; one more
    than the last where it has none. `first` (gates,): the scores to start from. `guarded`: groups that must not die, by
    number: their widest gate counts as open.
    """

    owners: Ints
    groups: int
    columns: Mapping[str, Ints]
    first: Floats
    guarded: frozenset[int] = frozenset()

    def opened(self, scores: Tensor, steepness: float = STEEPNESS) -> Tensor:
        """(gates,) scores -> how far each gate is open, from 0 to 1."""
        found = torch.sigmoid(steepness * scores)
        if not self.guarded:
            return found
        owners = torch.from_numpy(self.owners).to(scores.device)
        widest = torch.zeros(self.groups, device=scores.device).scatter_reduce(0, owners, found, "amax")
        guarded = torch.from_numpy(np.isin(np.arange(self.groups), list(self.guarded))).to(scores.device)
        return found / torch.where(guarded, widest, torch.ones_like(widest))[owners]

    def removed(self, opened: Tensor) -> Floats:
        """(groups,): how many channels the gates have taken away, in fractions of channels."""
        shut = 1 - opened.detach().double().cpu().numpy()
        return np.bincount(self.owners, shut, self.groups).astype(np.float64)


def first_scores(worth: Floats, costs: Floats, going: npt.NDArray[np.bool_]) -> Floats:
    """(gates,): scores from which gates shut in the order of worth for cost, those `going` long before the others.

    Gates that start alike would all come to the fence together, where the network learns to do with half of each.
    """
    found = np.empty(len(worth))
    order = np.argsort(np.argsort(worth / np.maximum(costs, 1e-300), kind="stable"), kind="stable")
    for these, (low, high) in ((going, GOING), (~going, STAYING)):
        places = np.argsort(np.argsort(order[these]))
        found[these] = low + (high - low) * places / max(1, len(places) - 1)
    return found


def ejector(scores: Tensor, spread: float = SPREAD) -> Tensor:
    """The root of the mean square of v = exp(-(s / 2 spread)^2): 1 where every score is 0, towards 0 far from it."""
    return torch.exp(-((scores / (2 * spread)) ** 2)).square().mean().sqrt()


def clamped_ramp(step: float, start: float, stop: float, most: float = 1.0) -> float:
    """0 up to `start`, then a cube that comes to `most` at `stop` and stays there."""
    risen = (step - start) / max(stop - start, 1e-12)
    return most * min(1.0, max(0.0, risen)) ** 3
