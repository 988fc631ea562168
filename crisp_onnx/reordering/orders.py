"""From saliency to an order of every free group of channels, with what each gains, and why the others are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from crisp_onnx.groups import ChannelGroup
from crisp_onnx.masks import DenseLayer, Plan, Planner, Saliency
from crisp_onnx.model import WeightLayer
from crisp_onnx.reordering.kept import KeptLayer
from crisp_onnx.reordering.roles import roles_of, sides_of
from crisp_onnx.reordering.search import search

WORK = 4e11
"""Multiply-adds of one search: about a minute on two cores. Networks to the size of ResNet-50 need less."""


@dataclass(frozen=True, eq=False)
class Order:
    """Channel `order[i]` of the group goes into place i. `gain`: share of all saliency that this alone added."""

    group: ChannelGroup
    order: npt.NDArray[np.int64]
    gain: float

    @property
    def moved(self) -> int:
        """How many channels change their place."""
        return int(np.count_nonzero(self.order != np.arange(len(self.order))))


@dataclass(frozen=True)
class Frozen:
    """A group of channels in sparse layers that stays in its order, and why."""

    group: ChannelGroup
    reason: str


@dataclass(frozen=True)
class Orders:
    """`before`, `after`: saliency that the plan keeps, over that of all layers that may become sparse."""

    orders: tuple[Order, ...]
    frozen: tuple[Frozen, ...]
    before: float
    after: float


def find_orders(groups: Sequence[ChannelGroup], planner: Planner, saliency: Saliency, *, work: float = WORK) -> Orders:
    """Orders of the groups under which the pattern keeps more of the `saliency`, both planned by `planner`.

    The search counts with the blocks that the plan gives each layer; the plan is made once more at the end.

    Raises:
        CrispError: as `Planner.plan`.
    """
    plan = planner.plan(saliency)
    sparse = tuple(item.layer for item in plan.sparse())
    kept = {
        item.layer.weight: KeptLayer(saliency[item.layer.weight], item.pattern, item.kept.shape[1])
        for item in plan.sparse()
    }
    touching = [group for group in groups if group.width > 1 and sides_of(group, sparse)]
    free = [group for group in touching if group.movable]
    frozen = tuple(Frozen(group, str(group.barriers[0])) for group in touching if not group.movable)
    before = kept_share(plan, saliency)
    if not free:
        return Orders((), frozen, before, before)
    whole = sum(float(np.sum(saliency[layer.weight], dtype=np.float64)) for layer in planner.candidates.free)
    found = search([roles_of(group, sparse, kept) for group in free], work)
    orders = tuple(
        Order(group, order.numpy(), gain / whole if whole else 0.0)
        for group, (order, gain) in zip(free, found, strict=True)
    )
    moved = _moved(saliency, planner.candidates.free, orders)
    return Orders(orders, frozen, before, kept_share(planner.plan(moved), moved))


def kept_share(plan: Plan, saliency: Saliency) -> float:
    """What the plan keeps of the saliency of all layers that it speaks of and that have one."""
    kept = whole = 0.0
    for item in plan.layers:
        values = saliency.get(item.layer.weight)
        if values is None:
            continue
        mass = float(np.sum(values, dtype=np.float64))
        whole += mass
        kept += mass if isinstance(item, DenseLayer) else float(np.sum(values[item.mask], dtype=np.float64))
    return kept / whole if whole else 1.0


def moved_statistics(statistics: Mapping[str, Tensor], orders: Sequence[Order]) -> dict[str, Tensor]:
    """Statistics by weight name, in shapes that go with the stored weights, on channels in their new order."""
    found = dict(statistics)
    for order in orders:
        places = np.arange(order.group.width)
        for member in order.group.members:
            values = found.get(member.tensor)
            # Where a statistic is one for the whole axis, the order along it means nothing.
            if values is None or member.axis >= values.ndim or values.shape[member.axis] < member.stop:
                continue
            along = values.clone().movedim(member.axis, 0)
            along[member.indices(places)] = along[member.indices(order.order)]
            found[member.tensor] = along.movedim(0, member.axis)
    return found


def _moved(
    saliency: Saliency, layers: Sequence[WeightLayer], orders: Sequence[Order]
) -> dict[str, npt.NDArray[np.floating]]:
    moved = {layer.weight: np.array(saliency[layer.weight]) for layer in layers}
    for order in orders:
        for (weight, reads), at in sides_of(order.group, layers).items():
            along = np.moveaxis(moved[weight], 1 if reads else 0, 0)
            along[at.numpy().reshape(-1)] = along[at.numpy()[order.order].reshape(-1)]
    return moved
