"""Seek an order of every free group of channels under which the pattern keeps more saliency.

Each group starts from the best of a few rough orders and goes on by exchanges of two channels, many at a time, judged
by bounds for all pairs at once. A group that took a step whose layers keep less than before takes it back, so what is
kept never falls. Work is counted in arithmetic and not in time: the same saliency gives the same orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crisp_onnx.progress import bar
from crisp_onnx.reordering.kept import KeptLayer
from crisp_onnx.reordering.roles import Role
from crisp_onnx.reordering.worth import cost_of, is_tight, worth_of

SWEEPS = 4
ROUNDS = 12
WORTH_ANOTHER_SWEEP = 2e-3
EXCHANGE_COST = 200.0
"""Multiply-adds that take as long as weighing one pair of channels, as measured."""
LEAST_GAIN = 1e-6
"""Of what the group's layers keep: what float32 sums cannot tell from nothing."""
MOST_TURNS = 4
"""Rounds of exchanges a channel, of which sound saliency needs a small part."""


@dataclass
class Work:
    """Multiply-adds that are left to spend."""

    left: float

    def take(self, cost: float) -> bool:
        """Spend `cost`, if that much is left."""
        if cost > self.left:
            return False
        self.left -= cost
        return True


def search(groups: Sequence[Sequence[Role]], work: float) -> list[tuple[Tensor, float]]:
    """Change places in the layers of all groups.

    For each group its order (channel `order[i]` came into place i) and the saliency that its moves have gained.
    """
    left = Work(work)
    orders = [torch.arange(len(roles[0].at)) for roles in groups]
    gains = [0.0] * len(groups)
    layers = _layers(role for roles in groups for role in roles)
    with bar("reordering", SWEEPS * len(groups)) as advance:
        for sweep in range(SWEEPS):
            before = _kept(layers)
            for number, roles in enumerate(groups):
                own = _layers(roles)
                gains[number] -= _kept(own)
                if sweep == 0:
                    orders[number] = orders[number][_start(roles, left)]
                for tight in (False, True):
                    orders[number] = orders[number][improve(roles, left, tight=tight)]
                gains[number] += _kept(own)
                advance(1)
            if _kept(layers) <= before * (1 + WORTH_ANOTHER_SWEEP):
                break
    return list(zip(orders, gains, strict=True))


def improve(roles: Sequence[Role], work: Work, *, tight: bool, rounds: int = ROUNDS) -> Tensor:
    """Exchange channels of one group while that gains; the order that came of it."""
    layers, width = _layers(roles), len(roles[0].at)
    order = torch.arange(width)
    # Places that meet in a group of M for one tap do for every tap.
    keys = [role.at[:, :1] // role.layer.pattern.m for role in roles if tight and is_tight(role)]
    if tight and not keys:
        return order
    for _ in range(rounds):
        if not work.take(EXCHANGE_COST * width**2 + sum(cost_of(role, tight=tight) for role in roles)):
            break
        worth = torch.stack([worth_of(role, tight=tight) for role in roles]).sum(0)
        before = _kept(layers)
        pairs = exchanges(worth, torch.cat(keys, 1) if keys else None, LEAST_GAIN * before)
        step = _take(roles, layers, pairs, before)
        if step is None:
            break
        order = order[step]
    return order


def exchanges(worth: Tensor, keys: Tensor | None, least: float) -> list[tuple[int, int]]:
    """Exchanges that gain more than `least` each, one after the other, the best first.

    `worth` (n, n): of channel j in place s. `keys` (n, k): places with the same key in a column depend on each other,
    so of those one changes its channel at most, and once. Without keys the exchanges go on until no single one gains
    or each place has had `MOST_TURNS`: they end whatever the worths are.
    """
    width = len(worth)
    # What the sum of four worths may be off by is no gain, and of worths that are not finite none is.
    least = max(least, 4 * torch.finfo(worth.dtype).eps * float(worth.abs().max()))
    shared = None if keys is None else _meeting(keys)
    there, order = worth.clone(), torch.arange(width)
    best, partner = torch.full((width,), -torch.inf, dtype=worth.dtype), torch.zeros(width, dtype=torch.int64)
    shut = torch.zeros(width, dtype=torch.bool)
    stale = torch.arange(width)
    found: list[tuple[int, int]] = []
    for _ in range(MOST_TURNS * width):
        if not len(stale):
            break
        gain = _gains(there, stale, shut, shared)
        best[stale], partner[stale] = gain.max(1)
        # Gains are symmetric, so those of the stale places are all that can be new to the others.
        new, row = gain.max(0)
        better = new > best
        best[better], partner[better] = new[better], stale[row[better]]
        taken, before = shut.clone(), len(found)
        for one in torch.argsort(best, descending=True, stable=True).tolist():
            if not float(best[one]) > least:
                break
            other = int(partner[one])
            if taken[one] or taken[other]:
                continue
            found.append((one, other))
            order[[one, other]] = order[[other, one]]
            if shared is None:
                taken[[one, other]] = True
            else:
                taken |= shared[one] | shared[other]
        if len(found) == before:
            break
        if shared is not None:
            shut = taken
            best[shut] = -torch.inf
        there[taken] = worth[order[taken]]
        stale = (taken | taken[partner]).nonzero()[:, 0]
    return found


def _gains(there: Tensor, places: Tensor, shut: Tensor, shared: Tensor | None) -> Tensor:
    """(places, n): what an exchange of each place with every other gains. `there[s]`: worths of the channel in s."""
    own = there.diagonal()
    gain = there[places] + there[:, places].T - own[places, None] - own[None]
    gain[:, shut] = -torch.inf
    gain[shut[places]] = -torch.inf
    if shared is not None:
        gain[shared[places]] = -torch.inf
    return gain


def order_of(pairs: Iterable[tuple[int, int]], width: int) -> Tensor:
    """The order that exchanges of places come to."""
    order = list(range(width))
    for one, other in pairs:
        order[one], order[other] = order[other], order[one]
    return torch.tensor(order)


def move(roles: Iterable[Role], order: Tensor) -> None:
    """Put channel `order[i]` of the group into place i, in all its layers."""
    changed = (order != torch.arange(len(order))).nonzero()[:, 0]
    if len(changed):
        for role in roles:
            role.move(changed, order[changed])


def _take(
    roles: Sequence[Role], layers: Sequence[KeptLayer], pairs: Sequence[tuple[int, int]], before: float
) -> Tensor | None:
    """Do the exchanges, or the first half of them and so on, until the layers keep more; None where none gains.

    Where a layer both writes and reads the channels, exchanges do not add up.
    """
    count = len(pairs)
    while count:
        order = order_of(pairs[:count], len(roles[0].at))
        move(roles, order)
        if _kept(layers) > before:
            return order
        move(roles, torch.argsort(order))
        count //= 2
    return None


def _start(roles: Sequence[Role], work: Work) -> Tensor:
    """The best of the order as it is and of rough ones, which whole blocks decide; the layers are left in it."""
    width, pattern = len(roles[0].at), roles[0].layer.pattern
    layers = _layers(roles)
    mass = torch.stack([_mass(role) for role in roles]).sum(0)
    best, chosen = _kept(layers), torch.arange(width)
    for first in (chosen, torch.argsort(mass, descending=True, stable=True)):
        rough = _rough(roles)
        move(rough, first)
        order = first[improve(rough, work, tight=False)]
        for tried in (order, *(_within_blocks(order, mass, pattern.block, part) for part in _parts(pattern.m))):
            move(roles, tried)
            kept = _kept(layers)
            move(roles, torch.argsort(tried))
            if kept > best:
                best, chosen = kept, tried
    move(roles, chosen)
    return chosen


def _parts(m: int) -> tuple[int, ...]:
    return (1, m)


def _within_blocks(order: Tensor, mass: Tensor, block: int, hands: int) -> Tensor:
    """The same blocks, inside each the channels of most mass first, dealt to every `hands`-th place in turn."""
    dealt = order.clone()
    for start in range(0, len(order), block):
        inside = order[start : start + block]
        inside = inside[torch.argsort(mass[inside], descending=True, stable=True)]
        whole = len(inside) // hands * hands
        dealt[start : start + whole] = inside[:whole].view(hands, -1).T.reshape(-1)
        dealt[start + whole : start + len(inside)] = inside[whole:]
    return dealt


def _mass(role: Role) -> Tensor:
    layer, at = role.layer, role.at
    sums = layer.shared.sum(0)[at] if role.reads else layer.matrix.sum(1)[at]
    return sums.sum(1)


def _rough(roles: Sequence[Role]) -> list[Role]:
    """The group's roles in copies of its layers that keep whole blocks, without N:M."""
    copies = {id(layer): layer.without_nm() for layer in _layers(roles)}
    return [replace(role, layer=copies[id(role.layer)]) for role in roles]


def _layers(roles: Iterable[Role]) -> list[KeptLayer]:
    return list({id(role.layer): role.layer for role in roles}.values())


def _kept(layers: Iterable[KeptLayer]) -> float:
    return sum(layer.total for layer in layers)


def _meeting(keys: Tensor) -> Tensor:
    """(n, n): whether two places have one of their keys in common."""
    same = torch.zeros(len(keys), len(keys), dtype=torch.bool)
    for column in keys.T:
        same |= column[:, None] == column[None]
    return same
