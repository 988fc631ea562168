"""Tensors as their bytes stand for them, with gradients that pass the rounding (straight-through, arXiv 1308.3432)."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.format.node import Grid

STEPS, LARGEST = 255, 127
LEAST_SCALE = 1e-30


def on_grid(values: Tensor, grid: Grid) -> Tensor:
    """The values as their bytes stand for them; where they are cut off they have no gradient."""
    ends = -grid.zero * grid.scale, (STEPS - grid.zero) * grid.scale
    cut = values.float().clamp(*ends)
    return (cut + (torch.round(cut / grid.scale) * grid.scale - cut).detach()).to(values.dtype)


def on_rows(weight: Tensor, axis: int = 0) -> Tensor:
    """A weight as int8 with a scale a row stands for it; `axis`: of the rows."""
    others = [other for other in range(weight.ndim) if other != axis % weight.ndim]
    real = weight.detach()
    scale = (real.abs().amax(dim=others, keepdim=True) / LARGEST).clamp_min(LEAST_SCALE)
    return weight + (torch.round(real / scale) * scale - real)
