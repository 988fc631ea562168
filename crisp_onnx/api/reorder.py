"""Put channels into a better order for the pattern, on the graph, and prove that the answers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from crisp_onnx.api.trials import difference
from crisp_onnx.groups import channel_groups, reorder
from crisp_onnx.masks import Planner, Saliency
from crisp_onnx.model import Model, Size, tensor_shapes
from crisp_onnx.model.answers import open_model, seeded_image
from crisp_onnx.reordering import Frozen, Order, find_orders, moved_statistics

TOLERANCE = 1e-5
IMAGES = 4
WORTHWHILE = 0.01
"""Of the saliency kept: less is not worth moving every weight for. What an order promises on the images that it was
found on, it holds on others but for 0.1 to 0.3 % (`resnet18w32_cifar100`, three class sets, gains of 6 to 8 %)."""


@dataclass(frozen=True)
class Reordering:
    """`reason`: why channels stay in the order of the file, empty where they were moved.

    `kept_before`, `kept_after`: saliency that the pattern keeps, over that of all layers that may become sparse, in the
    order of the file and in that found. `worst_relative`: difference of the answers, over the largest; None where
    nothing was tried.
    """

    reason: str
    kept_before: float
    kept_after: float
    worst_relative: float | None = None
    orders: tuple[Order, ...] = ()
    frozen: tuple[Frozen, ...] = ()


@dataclass(frozen=True)
class Reordered:
    """`model`, `statistics`: on channels in their new order, or as they were where `told` has a reason."""

    model: Model
    statistics: Mapping[str, Tensor]
    told: Reordering


def reorder_channels(
    model: Model, planner: Planner, saliency: Saliency, statistics: Mapping[str, Tensor], *, size: Size
) -> Reordered:
    """Reorder the channels of every free group where the planner's masks keep more of the `saliency` then.

    `statistics`: of the criterion, by weight name; they move along. Open image sides count as `size`.

    Raises:
        CrispError: as `Planner.plan`.
    """
    groups = channel_groups(model.graph(), planner.candidates.layers, tensor_shapes(model, size=size))
    found = find_orders(groups, planner, saliency)
    told = Reordering("", found.before, found.after, None, found.orders, found.frozen)
    if not any(order.moved for order in found.orders):
        left = "no other order keeps more" if found.orders else "no group of channels may change places"
        return Reordered(model, statistics, replace(told, reason=left))
    if found.after < found.before * (1 + WORTHWHILE):
        left = (
            f"the best order found keeps {100 * found.after:.2f} % of it, {100 * found.before:.2f} % is kept as it is"
        )
        return Reordered(model, statistics, replace(told, reason=left))
    graph = model.graph()
    for order in found.orders:
        reorder(graph, order.group, order.order)
    moved = model.with_graph(graph)
    told = replace(told, worst_relative=_worst_difference(model, moved, size))
    if told.worst_relative is not None and told.worst_relative > TOLERANCE:
        left = f"sums in another order would change the answers by {told.worst_relative:.1e} (relative)"
        return Reordered(model, statistics, replace(told, reason=left))
    return Reordered(moved, moved_statistics(statistics, found.orders), told)


def _worst_difference(model: Model, moved: Model, size: Size) -> float:
    """Of all outputs in ONNX Runtime, on seeded images."""
    batch = model.input.shape[0] if model.input.shape else None
    inputs = {model.input.name: seeded_image(model.input, batch or IMAGES, size)}
    before, after = (open_model(one).run(inputs) for one in (model, moved))
    return difference(after, before)
