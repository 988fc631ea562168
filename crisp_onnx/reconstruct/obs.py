"""Masks by Optimal Brain Surgeon: what the error grows by where a block, or a column of it, goes and the rest re-fits.

With W the best dense weights and I = H^-1, removing the columns Q of some rows costs tr(W_Q^T (I_QQ)^-1 W_Q) (Hassibi
and Stork, 1993). Blocks are judged so on the whole layer; among the columns of the blocks that are left, N:M is chosen
by w^2 / I_jj, a column of every group at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.format import Pattern
from crisp_onnx.masks import SparseLayer, best_blocks, with_mask


def obs(gram: Tensor, cross: Tensor, weight: Tensor, planned: SparseLayer) -> SparseLayer:
    """See `Choose`."""
    block, vector = planned.pattern.block, planned.pattern.vector_rows
    columns, rows = cross.shape
    over, below = -columns % block, -rows % block
    # Padding costs nothing to remove, and is removed first.
    whole = functional.pad(gram, (0, over, 0, over))
    whole.diagonal()[columns:] = 1
    goal = functional.pad(cross, (0, below, 0, over))
    inverse = torch.linalg.inv(whole)
    blocks = best_blocks(_removal(inverse, inverse @ goal, block).cpu().numpy(), planned)
    mask = np.zeros((rows + below, columns + over), bool)
    for top in range(0, rows + below, vector):
        kept = torch.from_numpy(blocks[top // block].astype(np.int64)).to(gram.device)
        left = (kept[:, None] * block + torch.arange(block, device=gram.device)).reshape(-1)
        left = _thinned(whole, goal[:, top : top + vector], left, planned.pattern)
        mask[top : top + vector, left.cpu().numpy()] = True
    return with_mask(planned, mask, blocks)


def _removal(inverse: Tensor, weight: Tensor, block: int) -> Tensor:
    """(R, C): what each block of `weight` (C*B, R*B) costs to remove."""
    count = len(inverse) // block
    own = inverse.view(count, block, count, block).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    parts = weight.view(count, block, -1)
    costs: Tensor = (parts * torch.linalg.solve(own, parts)).sum(1)
    return costs.view(count, -1, block).sum(2).T


def _thinned(gram: Tensor, goal: Tensor, left: Tensor, pattern: Pattern) -> Tensor:
    """Of the columns `left`, whole groups of M, the N of each that cost most to remove, the cheapest going first."""
    for size in range(pattern.m, pattern.n, -1):
        inverse = torch.linalg.inv(gram[left[:, None], left])
        cost = (inverse @ goal[left]).square().sum(1) / inverse.diagonal()
        groups = left.view(-1, size)
        keep = cost.view(-1, size).topk(size - 1, dim=1).indices.sort(1).values
        left = groups.gather(1, keep).reshape(-1)
    return left
