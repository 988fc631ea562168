"""Fit a grouped or depthwise convolution, which keeps all its weights: a small ridge regression for each group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crisp_onnx.model import WeightLayer
from crisp_onnx.reconstruct.evidence import Spread
from crisp_onnx.reconstruct.layer_fit import RIDGES, Fit

ROWS_OF_GROUPED = 2048
"""A group has few unknowns, nine in most depthwise convolutions, so few rows tell all of them."""


def best_grouped_fit(
    layer: WeightLayer, known: tuple[Tensor, Tensor], judged: tuple[Tensor, Tensor], old: Tensor, *, centred: bool,
    ridges: Sequence[float] = RIDGES,
) -> Fit:  # fmt: skip
    """As `best_fit`, from rows X (m, taps * channels) and Y (m, Cout) themselves. `old`: (Cout, K of a group)."""
    x, y = by_group(layer, *known)
    mean_x, mean_y = (rows.mean(1) if centred else torch.zeros_like(rows[:, 0]) for rows in (x, y))
    x, y = x - mean_x[:, None], y - mean_y[:, None]
    gram, cross = x.mT @ x / x.shape[1], x.mT @ y / x.shape[1]
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)
    eye = torch.eye(x.shape[2], dtype=x.dtype, device=x.device)
    seen_x, seen_y = by_group(layer, *judged)
    seen_x, seen_y = seen_x - mean_x[:, None], seen_y - mean_y[:, None]
    whole = (seen_y - seen_y.mean(1, keepdim=True)).square().sum()

    def error(weight: Tensor) -> float:
        missed = (seen_x @ weight.mT - seen_y).square().sum()
        return float((missed / whole).sqrt()) if whole > 0 else 0.0

    best, chosen = old.reshape(len(x), -1, x.shape[2]), None
    before = after = error(best)
    alive = (scale > 0)[:, None, None]
    for ridge in ridges:
        share = torch.where(alive, ridge * scale[:, None, None], 1.0)
        kept = old.reshape(best.shape)
        weight = torch.where(alive, torch.linalg.solve(gram + share * eye, cross + share * kept.mT).mT, kept)
        missed = error(weight)
        if missed < after:
            best, after, chosen = weight, missed, ridge
    given = Spread((best @ mean_x[:, :, None]).reshape(-1), (x @ best.mT).square().mean(1).reshape(-1))
    wanted = Spread(mean_y.reshape(-1), y.square().mean(1).reshape(-1))
    return Fit(best.reshape(old.shape), before, after, chosen, given, wanted)


def by_group(layer: WeightLayer, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as (groups, m, K) and (groups, m, outputs of a group) in float64, tap by tap with the channel fastest."""
    taps = layer.shape[2] * layer.shape[3]
    windows = x.double().reshape(len(x), taps, layer.groups, -1).permute(2, 0, 1, 3)
    outputs = y.double().reshape(len(y), layer.groups, -1).transpose(0, 1)
    return windows.reshape(layer.groups, len(x), -1), outputs
