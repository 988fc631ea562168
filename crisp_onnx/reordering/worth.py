"""What every channel of a group would be worth in the place of every other: bounds from below, all pairs at once.

With the masks as they are, a layer keeps of a channel what the mask of its place lets through: one matrix product for
rows, one for columns. Choosing anew afterwards can only keep more, so an exchange that gains under the old masks gains
at least as much. For columns a tighter bound is as cheap: the blocks stay, and every group of M chooses anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_onnx.reordering.roles import Role


def worth_of(role: Role, *, tight: bool) -> Tensor:
    """(width, width): entry (j, s) is what the role's layer keeps of channel j in the place of s.

    `tight`: of what `is_tight` allows, with N:M chosen anew; entry (s, s) is then the worth of the whole group of M.
    Exchanges add up where they meet in no group of M.
    """
    if not role.reads:
        return _of_rows(role)
    return _tight_of_columns(role) if tight and is_tight(role) else _of_columns(role)


def is_tight(role: Role) -> bool:
    """Whether the channels of the role have one column a tap each, and no group of M spans two taps."""
    layer = role.layer
    whole = role.at.shape[1] == layer.taps and layer.inputs % layer.pattern.m == 0
    return role.reads and whole and layer.pattern.n < layer.pattern.m


def cost_of(role: Role, *, tight: bool) -> float:
    """Multiply-adds, or what takes as long, of `worth_of`."""
    width, places = role.at.shape
    if not role.reads:
        return float(width * places * role.layer.shared.numel())
    products = float(width * width * places * len(role.layer.shared))
    return products * TIGHT_COST * float(role.layer.kept.float().mean()) if tight and is_tight(role) else products


TIGHT_COST = 20.0
"""A comparison and an addition against a multiply-add of a matrix product, as measured."""


def _of_rows(role: Role) -> Tensor:
    layer, (width, places) = role.layer, role.at.shape
    through = layer.matrix[role.at.reshape(-1)] @ layer.mask().float().T
    groups = role.at // layer.pattern.vector_rows
    worth = torch.zeros(width, width)
    for place in range(places):
        worth += through[place::places][:, groups[:, place]]
    return worth


def _of_columns(role: Role) -> Tensor:
    layer, (width, places) = role.layer, role.at.shape
    columns = role.at.reshape(-1)
    seen = layer.shared[:, columns].view(-1, width, places).transpose(0, 1).reshape(width, -1)
    mask = layer.mask()[:, columns].view(-1, width, places).transpose(0, 1).reshape(width, -1)
    return seen @ mask.float().T


def _tight_of_columns(role: Role) -> Tensor:
    layer, width = role.layer, len(role.at)
    row_groups, block = layer.pattern.row_groups, layer.pattern.block
    base, least = layer.alternatives()
    kept = layer.kept.T.repeat_interleave(row_groups, 1)  # (C, RG)
    seen = layer.shared[:, role.at.reshape(-1)].view(-1, *role.at.shape).permute(1, 2, 0).reshape(width, -1)
    worth = torch.empty(width, width)
    blocks = role.at // block
    buffer = torch.empty(0)
    last, features, inputs = None, torch.empty(0, dtype=torch.int64), torch.empty(0, 0)
    for place in torch.argsort(blocks[:, 0], stable=True).tolist():
        key = tuple(blocks[place].tolist())
        if key != last:  # the places of one block see the same rows and taps
            last = key
            features = kept[blocks[place]].reshape(-1).nonzero()[:, 0]
            inputs = seen[:, features].contiguous()
            buffer = torch.empty_like(inputs)
        own = base[:, role.at[place]].T.reshape(-1)[features].sum()
        floor = least[:, role.at[place]].T.reshape(-1)[features]
        torch.maximum(inputs, floor, out=buffer)
        worth[:, place] = buffer.sum(1) + own
    return worth
