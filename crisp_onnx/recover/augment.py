"""Augment a batch: shifted crops, and mirror images where the model itself does not mind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.data.pixel_labels import IGNORED


def augment(
    images: Tensor,
    labels: Tensor | None,
    generator: torch.Generator,
    *,
    flip: bool,
    shift: bool = True,
    channels_last: bool = False,
    whole: int | None = None,
    share: slice = slice(None),
) -> tuple[Tensor, Tensor | None]:
    """Flips of half of the batch, and with `shift` random crops of it padded by an eighth of its sides.

    `images` is (n, C, H, W), or (n, H, W, C) with `channels_last`; the shape stays. `labels` of whole images (n,) stay;
    those of pixels (n, H, W) move along, and beyond the image are ignored. `share`: the images are those of a batch of
    `whole` images, for all of which numbers are drawn.
    """
    planes = images.permute(0, 3, 1, 2) if channels_last else images
    reach = [side // 8 if shift else 0 for side in planes.shape[2:]]
    moves = _drawn(len(planes) if whole is None else whole, reach, generator, flip=flip)[share]
    shown = _moved(planes, moves, reach, fill=0)
    if labels is not None and labels.ndim > 1:
        labels = _moved(labels[:, None], moves, reach, fill=IGNORED)[:, 0]
    return shown.permute(0, 2, 3, 1).contiguous() if channels_last else shown, labels


@dataclass(frozen=True)
class _Move:
    """Where the crop of an image begins in the padded one, and whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


def _drawn(count: int, reach: Sequence[int], generator: torch.Generator, *, flip: bool) -> list[_Move]:
    top, left = (torch.randint(0, 2 * most + 1, (count,), generator=generator).tolist() for most in reach)
    mirrored = (torch.rand(count, generator=generator) < 0.5).tolist() if flip else [False] * count
    return [_Move(*each) for each in zip(top, left, mirrored, strict=True)]


def _moved(planes: Tensor, moves: list[_Move], reach: Sequence[int], *, fill: int) -> Tensor:
    """Planes (n, C, H, W) after the moves, in the same shape; `fill` stands where they moved away from."""
    _, _, height, width = planes.shape
    pad_y, pad_x = reach
    padded = functional.pad(planes, (pad_x, pad_x, pad_y, pad_y), value=fill)
    crops = []
    for plane, move in zip(padded, moves, strict=True):
        crop = plane[:, move.top : move.top + height, move.left : move.left + width]
        crops.append(crop.flip(-1) if move.mirrored else crop)
    return torch.stack(crops)
