"""Augment a batch: shifted crops, and mirror images where the model itself does not mind them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    flip: bool,
    channels_last: bool = False,
    whole: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """Random crops of the batch padded by an eighth of its sides, and flips of half of it.

    `images` is (n, C, H, W), or (n, H, W, C) with `channels_last`; the shape stays. `share`: the images are those of a
    batch of `whole` images, for all of which numbers are drawn.
    """
    if channels_last:
        planes = augment(images.permute(0, 3, 1, 2), generator, flip=flip, whole=whole, share=share)
        return planes.permute(0, 2, 3, 1).contiguous()
    count, _, height, width = images.shape
    n = count if whole is None else whole
    pad_y, pad_x = height // 8, width // 8
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    top = torch.randint(0, 2 * pad_y + 1, (n,), generator=generator).tolist()
    left = torch.randint(0, 2 * pad_x + 1, (n,), generator=generator).tolist()
    mirrored = (torch.rand(n, generator=generator) < 0.5).tolist() if flip else [False] * n
    crops = []
    drawn = list(zip(top, left, mirrored, strict=True))[share]
    for number, (y, x, mirror) in zip(range(count), drawn, strict=True):
        crop = padded[number, :, y : y + height, x : x + width]
        crops.append(crop.flip(-1) if mirror else crop)
    return torch.stack(crops)
