"""What a pattern keeps of a layer's saliency while rows and columns change places: only what changed is scored anew."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.format import Pattern
from crisp_onnx.format.matrix import padded_matrix


class KeptLayer:
    """A saliency (Cout, Cin, kh, kw) under `pattern`, of which every block row keeps its best `blocks`.

    With A the padded matrix view (R*B, C*B), RG = R*B/V groups of rows and K = C*B:
    `matrix` (R*B, K): A; `shared` (RG, K): its sums over V rows; `chosen` (RG, K): what N:M keeps of them; `kept`
    (R, C): the best blocks; `total`: the saliency kept. Padding stands behind all rows and columns and never moves.
    """

    def __init__(self, saliency: npt.NDArray[np.floating], pattern: Pattern, blocks: int) -> None:
        self.pattern, self.blocks = pattern, blocks
        self.inputs, self.taps = int(saliency.shape[1]), int(saliency.shape[2] * saliency.shape[3])
        # The best order does not depend on the unit; sums of many layers shall not leave the range of float32.
        self.matrix = torch.from_numpy(padded_matrix(np.asarray(saliency, np.float32), pattern.block))
        rows, columns = self.matrix.shape
        self.shared = torch.zeros(rows // pattern.vector_rows, columns)
        self.chosen = torch.zeros(self.shared.shape, dtype=torch.bool)
        self._parts = torch.zeros(len(self.shared), columns // pattern.block, dtype=torch.float64)
        self.kept = torch.zeros(rows // pattern.block, columns // pattern.block, dtype=torch.bool)
        self.total = 0.0
        self._score_rows(torch.arange(len(self.shared)))

    @property
    def weights(self) -> int:
        """Entries of the matrix, padding included."""
        return self.matrix.numel()

    def without_nm(self) -> KeptLayer:
        """The same matrix, as it stands, under whole blocks: what a first rough order is sought for."""
        other = object.__new__(KeptLayer)
        p = self.pattern
        other.pattern, other.blocks = Pattern(p.m, p.m, p.block, p.vector_rows), self.blocks
        other.inputs, other.taps = self.inputs, self.taps
        other.matrix, other.shared = self.matrix.clone(), self.shared.clone()
        other.chosen = torch.ones_like(self.chosen)
        other._parts, other.kept = torch.zeros_like(self._parts), torch.zeros_like(self.kept)
        other._score_rows(torch.arange(len(other.shared)))
        return other

    def move_rows(self, to: Tensor, source: Tensor) -> None:
        """Put row `source[i]` in place `to[i]`; both name the same rows."""
        self.matrix[to] = self.matrix[source]
        self._score_rows(torch.unique(to // self.pattern.vector_rows))

    def move_columns(self, to: Tensor, source: Tensor) -> None:
        """Put column `source[i]` in place `to[i]`; both name the same columns."""
        self.matrix[:, to] = self.matrix[:, source]
        self.shared[:, to] = self.shared[:, source]
        self._score_columns(torch.unique(to // self.pattern.block))

    def columns(self, inputs: Tensor) -> Tensor:
        """(...) input channels -> (..., taps) columns of the matrix."""
        return inputs[..., None] + torch.arange(self.taps) * self.inputs

    def mask(self) -> Tensor:
        """(RG, K) bool: what is kept, a row for each group of V rows."""
        kept = self.kept.repeat_interleave(self.pattern.row_groups, 0)
        return self.chosen & kept.repeat_interleave(self.pattern.block, 1)

    def alternatives(self) -> tuple[Tensor, Tensor]:
        """Two (RG, K) tensors `base`, `least`: with x in a place, its group of M is worth base + max(x, least)."""
        pattern = self.pattern
        groups = self.shared.view(len(self.shared), -1, pattern.m)
        chosen = self.chosen.view(groups.shape)
        infinite = torch.full((), torch.inf)
        top = torch.where(chosen, groups, 0.0).sum(-1, keepdim=True)
        last_in = torch.where(chosen, groups, infinite).amin(-1, keepdim=True)
        first_out = torch.where(chosen, -infinite, groups).amax(-1, keepdim=True)
        base = torch.where(chosen, top - groups, top - last_in)
        least = torch.where(chosen, first_out, last_in)
        return base.view(self.shared.shape), least.view(self.shared.shape)

    def _score_rows(self, groups: Tensor) -> None:
        """Score groups of V rows anew, and choose blocks."""
        v, block = self.pattern.vector_rows, self.pattern.block
        rows = (groups[:, None] * v + torch.arange(v)).reshape(-1)
        self.shared[groups] = self.matrix[rows].view(len(groups), v, -1).sum(1)
        self.chosen[groups] = best_of_m(self.shared[groups], self.pattern)
        worth = torch.where(self.chosen[groups], self.shared[groups], 0.0)
        self._parts[groups] = worth.view(len(groups), -1, block).sum(-1, dtype=torch.float64)
        self._choose()

    def _score_columns(self, blocks: Tensor) -> None:
        """Score block columns anew, and choose blocks."""
        block = self.pattern.block
        columns = (blocks[:, None] * block + torch.arange(block)).reshape(-1)
        shared = self.shared[:, columns]
        chosen = best_of_m(shared, self.pattern)
        self.chosen[:, columns] = chosen
        worth = torch.where(chosen, shared, 0.0).view(len(shared), len(blocks), block)
        self._parts[:, blocks] = worth.sum(-1, dtype=torch.float64)
        self._choose()

    def _choose(self) -> None:
        scores = self._parts.view(len(self.kept), self.pattern.row_groups, -1).sum(1)
        best = scores.topk(min(self.blocks, scores.shape[1]), dim=1)
        self.kept = torch.zeros_like(self.kept).scatter_(1, best.indices, True)
        self.total = float(best.values.sum())


def best_of_m(shared: Tensor, pattern: Pattern) -> Tensor:
    """(.., K) bool: the N largest in every group of M; among equal ones the lower."""
    if pattern.n == pattern.m:
        return torch.ones(shared.shape, dtype=torch.bool)
    groups = shared.reshape(len(shared), -1, pattern.m)
    before = torch.zeros(groups.shape, dtype=torch.uint8)
    for place in range(pattern.m):
        other = groups[..., place : place + 1]
        before[..., :place] += other > groups[..., :place]
        before[..., place + 1 :] += other >= groups[..., place + 1 :]
    return (before < pattern.n).view(shared.shape)
