"""Masks by ADMM: the weights that answer best, and their nearest under the pattern, are drawn together.

ALPS (arXiv 2406.07831), with the hybrid pattern in place of its N:M. With H, G as in `least_squares`, columns scaled so
that the diagonal of H is one, and P the projection on the pattern:

    W = (H + rho I)^-1 (G - U + rho D),   D = P(W + U / rho),   U = U + rho (W - D)

while rho rises, until the support of D stays. P is exact: see `masks.projection`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.masks import SparseLayer, nearest, with_mask
from crisp_onnx.masks.hybrid import Floats, Ints

FIRST_RHO, RISE, STEPS = 0.03, 1.2, 40
SETTLED, SETTLED_STEPS = 1e-4, 3
"""Share of the mask that changes in a step, and for how many steps, when it counts as settled."""


def alps(gram: Tensor, cross: Tensor, weight: Tensor, planned: SparseLayer) -> SparseLayer:
    """See `Choose`."""
    unit = gram.diagonal().clamp_min(1e-12 * float(gram.diagonal().max())).sqrt()
    scaled = (gram / (unit[:, None] * unit)).float()
    goal, target = (cross / unit[:, None]).float(), (weight.T * unit[:, None]).float()
    eye = torch.eye(len(unit), device=gram.device)
    mask, blocks = _nearest(target, planned)
    sparse, dual, rho, still = target * mask, torch.zeros_like(target), FIRST_RHO, 0
    for _ in range(STEPS):
        factor = torch.linalg.cholesky(scaled + rho * eye)
        free = torch.cholesky_solve(goal - dual + rho * sparse, factor)
        before = mask
        mask, blocks = _nearest(free + dual / rho, planned)
        sparse = (free + dual / rho) * mask
        dual = dual + rho * (free - sparse)
        rho *= RISE
        still = still + 1 if float((mask != before).sum()) <= SETTLED * float(mask.sum()) else 0
        if still == SETTLED_STEPS:
            break
    return with_mask(planned, _padded(mask, planned.pattern.block) > 0, blocks)


def _nearest(columns: Tensor, planned: SparseLayer) -> tuple[Tensor, Ints]:
    """The mask (K, Cout) of `columns` (K, Cout), and its blocks."""
    squares = _padded(columns.square(), planned.pattern.block)
    mask, blocks = nearest(squares, planned)
    cut = torch.from_numpy(np.ascontiguousarray(mask[: columns.shape[1], : columns.shape[0]].T))
    return cut.to(columns.device), blocks


def _padded(columns: Tensor, block: int) -> Floats:
    """(K, Cout) -> (R*B, C*B)."""
    rows = columns.T
    padded: Floats = functional.pad(rows, (0, -rows.shape[1] % block, 0, -rows.shape[0] % block)).cpu().numpy()
    return padded
