"""How many images and rows are looked at, which, and what they say of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.data import Images, whole_batches
from crisp_onnx.model import WeightLayer
from crisp_onnx.reconstruct.evidence import ROWS_OF_WIDE, WIDEST, Evidence, evidence
from crisp_onnx.reconstruct.frontier import Part
from crisp_onnx.reconstruct.grouped import ROWS_OF_GROUPED
from crisp_onnx.reconstruct.targets import Rows

LEAST_ROWS, ROWS_A_COLUMN, JUDGED_ROWS = 20_000, 6, 4096
JUDGED_SHARE = 4


@dataclass(frozen=True)
class Look:
    """How many images are looked at: as many as cost `macs`, at least `least`, at most `most`; of their rows, a share.

    The last layers of a network have few rows an image, and what few images say of a wide one is not true of others: a
    network that multiplies little an image can afford many.
    """

    most: int
    least: int
    macs: float
    rows_share: int = 1

    def images(self, macs: int) -> int:
        """For a network of so many MACs an image."""
        return min(self.most, max(self.least, int(self.macs / max(1, macs))))


FIT, FIT_BEFORE_TRAINING = Look(2048, 256, 1e12), Look(1024, 256, 1.5e11)
"""Training makes good what fewer images cost."""
CURVES, CURVES_BEFORE_TRAINING = Look(1024, 128, 1.5e11), Look(256, 128, 5e10, rows_share=3)
"""Curves are compared, not kept."""


def parts_of(
    images: Images, judged: Images, look: Look, layers: Sequence[WeightLayer], *, takes: int | None, seed: int
) -> tuple[Part, Part]:
    """Some images to learn from and some that judge, of a network of these layers."""
    most = look.images(sum(layer.macs for layer in layers))
    return (
        Part(images, _places(images, most, takes, seed), judged=False),
        Part(judged, _places(judged, most // JUDGED_SHARE, takes, seed), judged=True),
    )


def _places(images: Images, most: int, takes: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Which images are used: some at random, in whole batches where the graph takes no others."""
    return whole_batches(np.random.default_rng(seed).permutation(len(images))[:most], takes)


def rows_an_image(layer: WeightLayer, images: tuple[int, ...], look: Look) -> tuple[float, float]:
    """Rows wanted of each image that is learnt from, and of each that judges, of which there are so many `images`."""
    return _rows_wanted(layer) / look.rows_share / images[0], JUDGED_ROWS / images[1]


def _rows_wanted(layer: WeightLayer) -> int:
    columns = layer.weights // layer.shape[0]
    if layer.groups > 1:
        return ROWS_OF_GROUPED
    return ROWS_OF_WIDE if columns > WIDEST else max(LEAST_ROWS, ROWS_A_COLUMN * columns)


def gathered(rows: Iterator[Rows], dense: Tensor, *, centred: bool) -> tuple[Evidence, tuple[Tensor, Tensor]]:
    """What the rows say of a layer with weights `dense` (Cout, K), and the rows that judge."""
    outputs, columns = dense.shape
    known = evidence(columns, outputs, centred=centred, device=dense.device)
    judged = []
    for some in rows:
        if some.judged:
            judged.append(some)
        else:
            known.add(some.x, some.y)
    return known, joined(judged)


def joined(rows: list[Rows]) -> tuple[Tensor, Tensor]:
    """The inputs and the outputs of all of them."""
    return torch.cat([some.x for some in rows]), torch.cat([some.y for some in rows])
