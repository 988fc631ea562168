"""Augment a batch: shifted crops, and mirror images where the model itself does not mind them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, channels_last: bool = False) -> Tensor:
    """Random crops of the batch padded by an eighth of its sides, and flips of half of it.

    `images` is (n, C, H, W), or (n, H, W, C) with `channels_last`; the shape stays.
    """
    if channels_last:
        planes = augment(images.permute(0, 3, 1, 2), generator, flip=flip)
        return planes.permute(0, 2, 3, 1).contiguous()
    n, _, height, width = images.shape
    pad_y, pad_x = height // 8, width // 8
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    top = torch.randint(0, 2 * pad_y + 1, (n,), generator=generator).tolist()
    left = torch.randint(0, 2 * pad_x + 1, (n,), generator=generator).tolist()
    mirrored = (torch.rand(n, generator=generator) < 0.5).tolist() if flip else [False] * n
    crops = []
    for number, (y, x, mirror) in enumerate(zip(top, left, mirrored, strict=True)):
        crop = padded[number, :, y : y + height, x : x + width]
        crops.append(crop.flip(-1) if mirror else crop)
    return torch.stack(crops)
