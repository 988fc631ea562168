"""Least squares: re-fit the weights that a plan keeps, layer by layer, to what the dense network's layers answer.

With X a layer's inputs in the network as it is re-fitted so far, Y what its outputs should be, and Q the support that V
rows share, each group of rows becomes

    w = argmin mean |X_Q w - y|^2 + ridge |w - old|^2 = (H_QQ + ridge I)^-1 (G_Q + ridge old)

with H = X^T X / m and G = X^T Y / m. Y are the outputs of the same layer in the dense network and, where they are added
to another branch, what that branch misses by now. X and Y are taken about their means where a bias, or the BatchNorm
behind, takes up the difference. Layers that keep all their weights are re-fitted alike once something in front of them
has changed. Convolutions are products over their output positions, of which some are drawn at random. Images are
streamed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, Node
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.model import WeightLayer
from crisp_onnx.progress import bar
from crisp_onnx.reconstruct.behind import Behind, behind, match, settle
from crisp_onnx.reconstruct.choices import chosen
from crisp_onnx.reconstruct.evidence import Spread
from crisp_onnx.reconstruct.frontier import Frontier, Seen, needed_behind
from crisp_onnx.reconstruct.gathering import FIT, Look, gathered, joined, parts_of, rows_an_image
from crisp_onnx.reconstruct.grouped import best_grouped_fit
from crisp_onnx.reconstruct.layer_fit import Fit, LayerFit, best_fit
from crisp_onnx.reconstruct.refitted import Refitted
from crisp_onnx.reconstruct.samples import as_rows, as_stored, mask_rows
from crisp_onnx.reconstruct.stops import Stop, stops_of
from crisp_onnx.reconstruct.targets import Rows, own_bias, rows_of


def least_squares(
    student: GraphModule, plan: Plan, images: Images, judged: Images, *, choice: str = "alps", batch_size: int,
    look: Look = FIT, seed: int = 0,
) -> Refitted:  # fmt: skip
    """Re-fit `student`, which has the plan's masks, in place; without its masks it is the dense network.

    Weights outside the support keep their values behind the masks. `judged`: images that choose the ridge and that the
    errors are measured on. `choice`: one of `CHOICES`, by which the masks of each layer are chosen anew when its turn
    comes.
    """
    groups = {item.layer.name: item.pattern.vector_rows for item in plan.sparse()}
    layers = tuple(item.layer for item in plan.layers)
    planned = {item.layer.name: item for item in plan.sparse()}
    fits = refit_layers(
        student, layers, groups, images, judged, planned=planned, choice=choice, batch_size=batch_size, look=look,
        seed=seed,
    )  # fmt: skip
    return Refitted(plan.under(planned), fits)


def refit_layers(
    student: GraphModule,
    layers: Sequence[WeightLayer],
    groups: Mapping[str, int],
    images: Images,
    judged: Images,
    *,
    planned: dict[str, SparseLayer] | None = None,
    choice: str = "",
    batch_size: int,
    look: Look = FIT,
    seed: int = 0,
) -> tuple[LayerFit, ...]:
    """As `least_squares`, for masks of any form. `groups`: of the masked layers, how many rows share a support.

    Without its masks and its lenses, `student` is the dense network.

    `planned`: layers by name whose masks `choice` may choose anew; changed in place.
    """
    planned = {} if planned is None else planned
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    teacher.clear_masks()
    teacher.set_lenses({})
    student.eval()
    stops = stops_of(student, layers, groups)
    parts = parts_of(images, judged, look, layers, takes=student.takes, seed=seed)
    frontier = Frontier(student, teacher, parts, batch_size=batch_size)
    counts = tuple(len(part.places) for part in parts)
    generator = torch.Generator().manual_seed(seed)
    fits = []
    with bar("least squares", len(stops)) as advance:
        for at, stop in enumerate(stops):
            read, rest = stop.node.inputs[0], needed_behind(student, stop.number)
            if stop.layer is None:
                _rematch(student, stop.node, frontier.see(([read], [read]), rest))
            else:
                after = behind(student, stop.node, stop.layer.shape[0], {later.node.name for later in stops[at:]})
                added = [after.addend] if after.addend else []
                seen = frontier.see(([read, *added], [stop.node.outputs[0], *added]), rest)
                item = planned.get(stop.layer.name)
                fit, found = _refit(student, stop, stop.layer, after, seen, counts, look, generator, item, choice)
                fits.append(fit)
                if found is not None:
                    planned[stop.layer.name] = found
            advance(1)
    return tuple(fits)


def _refit(
    student: GraphModule,
    stop: Stop,
    layer: WeightLayer,
    after: Behind,
    seen: Iterable[Seen],
    images: tuple[int, ...],
    look: Look,
    generator: torch.Generator,
    planned: SparseLayer | None,
    choice: str,
) -> tuple[LayerFit, SparseLayer | None]:
    """The fit, and the sparse layer under the masks that it has now."""
    stored = dict(student.named_parameters())[layer.weight]
    an_image = rows_an_image(layer, images, look)
    rows = rows_of(student, layer, stop.node, after, seen, an_image, generator)
    dense = as_rows(layer, stored)
    support = torch.ones_like(dense, dtype=torch.bool)
    if layer.groups > 1:
        fit = _grouped_fit(layer, rows, dense.double(), centred=after.shifts)
    else:
        known, unseen = gathered(rows, dense, centred=after.shifts)
        if planned is not None:
            planned = chosen(choice, known, dense.double(), planned)
            support = mask_rows(layer, planned.mask).to(dense.device)
            student.set_masks({layer.weight: as_stored(layer, support, stored)})
        elif layer.weight in student.masks:
            support = as_rows(layer, student.masks[layer.weight])
        fit = best_fit(known, unseen, torch.where(support, dense, 0).double(), support, stop.group)
    with torch.no_grad():
        stored.copy_(as_stored(layer, torch.where(support, fit.weight.float(), dense), stored))
    _take_up(student, stop.node, after, fit)
    return LayerFit(layer.name, fit.before, fit.after, fit.ridge), planned


def _grouped_fit(layer: WeightLayer, rows: Iterator[Rows], old: Tensor, *, centred: bool) -> Fit:
    every = list(rows)
    known, judged = (joined([some for some in every if some.judged == which]) for which in (False, True))
    return best_grouped_fit(layer, known, judged, old, centred=centred)


def _take_up(student: GraphModule, node: Node, after: Behind, fit: Fit) -> None:
    """Let what stands behind the layer take up how the means of its outputs have changed."""
    if after.norm is not None:
        own = own_bias(student, node)
        given, wanted = (Spread(spread.mean + own, spread.variance) for spread in (fit.given, fit.wanted))
        settle(student, after.norm, given, wanted)
    elif after.bias is not None:
        bias = dict(student.named_parameters())[after.bias]
        with torch.no_grad():
            bias.add_((fit.wanted.mean - fit.given.mean).to(bias).reshape(bias.shape))


def _rematch(student: GraphModule, norm: Node, seen: Iterator[Seen]) -> None:
    """Set the statistics of a BatchNorm to what it is given now."""
    read = norm.inputs[0]
    sums: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    for batch in seen:
        for name, values in (("student", batch.student[read]), ("teacher", batch.teacher[read])):
            axes = [axis for axis in range(values.ndim) if axis != 1]
            exact = values.double()
            count = torch.full_like(exact.sum(axes), values.numel() // values.shape[1])
            sums[name].append(torch.stack([count, exact.sum(axes), exact.square().sum(axes)]))
    spreads = []
    for name in ("student", "teacher"):
        count, total, squares = torch.stack(sums[name]).sum(0)
        spreads.append(Spread(total / count, (squares / count - (total / count).square()).clamp_min(0)))
    match(student, norm, *spreads)
