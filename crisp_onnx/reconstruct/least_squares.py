"""Least squares: re-fit the weights that a plan keeps, layer by layer, to what the dense network's layers answer.

With X a layer's inputs in the network as it is re-fitted so far, Y the outputs of the same layer in the dense network,
and Q the support that V rows share, each group of rows becomes

    w = argmin mean |X_Q w - y|^2 + ridge |w - old|^2 = (H_QQ + ridge I)^-1 (G_Q + ridge old)

with H = X^T X / m and G = X^T Y / m.
X and Y are taken about their means where a bias, or the BatchNorm behind, takes up the difference. Convolutions are
products over their output positions, of which some are drawn at random. Images are streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, Node
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan, SparseLayer
from crisp_onnx.progress import bar
from crisp_onnx.reconstruct.behind import Spread, bias_behind, match, norm_behind
from crisp_onnx.reconstruct.evidence import ROWS_OF_WIDE, WIDEST, evidence
from crisp_onnx.reconstruct.frontier import Frontier, Part, Seen, live
from crisp_onnx.reconstruct.layer_fit import best_fit, shift_of
from crisp_onnx.reconstruct.samples import as_rows, as_stored, input_rows, output_rows, row_count

LEAST_ROWS, ROWS_A_COLUMN, JUDGED_ROWS = 20_000, 6, 4096
IMAGES, IMAGES_IF_LARGE, LARGE_PIXELS = 1024, 256, 128 * 128
JUDGED_SHARE = 4


@dataclass(frozen=True)
class LayerFit:
    """How a layer was re-fitted, on images that the fit has not seen.

    `before`, `after`: RMS of what its outputs miss, over the RMS of the dense network's outputs about their means.
    `ridge`: as a share of the mean square of its inputs; None where the weights stayed as they were.
    """

    layer: str
    before: float
    after: float
    ridge: float | None


@dataclass(frozen=True, eq=False)
class _Stop:
    """A node to stop in front of: a layer of the plan, or a BatchNorm (`sparse` None) behind a layer that is none."""

    number: int
    node: Node
    sparse: SparseLayer | None


def least_squares(
    student: GraphModule,
    teacher: GraphModule,
    plan: Plan,
    images: Images,
    judged: Images,
    *,
    batch_size: int,
    seed: int = 0,
) -> tuple[LayerFit, ...]:
    """Re-fit `student`, which has the plan's masks, in place. `teacher` is the dense network, which it came from.

    Weights outside the support keep their values behind the masks. `judged`: images that choose the ridge and that the
    errors are measured on.
    """
    student.eval()
    teacher.eval()
    stops = _stops(student, plan)
    parts = tuple(
        Part(source, _places(source, share, student.takes, seed), is_judged)
        for source, share, is_judged in ((images, 1, False), (judged, JUDGED_SHARE, True))
    )
    frontier = Frontier(student, teacher, parts, batch_size=batch_size)
    used = {part.judged: len(part.places) for part in parts}
    generator = torch.Generator().manual_seed(seed)
    fits = []
    with bar("least squares", len(stops)) as advance:
        for stop in stops:
            inputs, outputs = stop.node.inputs[0], stop.node.outputs[0]
            behind = live(student, stop.number, stops[-1].number)
            if stop.sparse is None:
                _rematch(student, stop.node, frontier.see(inputs, inputs, behind))
            else:
                seen = frontier.see(inputs, outputs, behind)
                fits.append(_refit(student, stop.node, stop.sparse, seen, used, generator))
            advance(1)
    return tuple(fits)


def _places(images: Images, share: int, takes: int | None, seed: int) -> np.ndarray:
    """Which images are used: some at random, in whole batches where the graph takes no others."""
    most = IMAGES if prod(images.preprocess.size) <= LARGE_PIXELS else IMAGES_IF_LARGE
    places = np.random.default_rng(seed).permutation(len(images))[: most // share]
    return places if takes is None else np.resize(places, max(takes, len(places) // takes * takes))


def _stops(student: GraphModule, plan: Plan) -> list[_Stop]:
    """The plan's layers in the order of the graph, and between them the BatchNorms that no fit brings along."""
    sparse = {item.layer.name: item for item in plan.sparse()}
    numbers = [number for number, node in enumerate(student.nodes) if node.name in sparse]
    if not numbers:
        return []
    refitted = {node.outputs[0] for node in student.nodes if node.name in sparse}
    stops = []
    for number, node in enumerate(student.nodes[numbers[0] :], numbers[0]):
        if node.name in sparse:
            stops.append(_Stop(number, node, sparse[node.name]))
        elif node.inputs[:1] and node.inputs[0] not in refitted and norm_behind(student, node.inputs[0]) is node:
            stops.append(_Stop(number, node, None))
    return stops


def _refit(
    student: GraphModule,
    node: Node,
    sparse: SparseLayer,
    seen: Iterator[Seen],
    images: Mapping[bool, int],
    generator: torch.Generator,
) -> LayerFit:
    layer, parameters = sparse.layer, dict(student.named_parameters())
    stored, outputs, columns = parameters[layer.weight], layer.shape[0], layer.weights // layer.shape[0]
    norm, bias = norm_behind(student, node.outputs[0]), bias_behind(student, node, outputs)
    own = parameters[node.inputs[2]].detach() if len(node.inputs) > 2 and node.inputs[2] else torch.zeros(1)
    known = evidence(columns, outputs, centred=bool(norm or bias), device=stored.device)
    wide = columns > WIDEST
    wanted = {False: ROWS_OF_WIDE if wide else max(LEAST_ROWS, ROWS_A_COLUMN * columns), True: JUDGED_ROWS}
    judged: list[tuple[Tensor, Tensor]] = []
    for batch in seen:
        count = row_count(layer, batch.teacher)
        share = wanted[batch.judged] * batch.images / images[batch.judged]
        at = torch.randperm(count, generator=generator)[: max(1, round(share))].to(stored.device)
        x = input_rows(layer, node, batch.student, batch.teacher, at)
        y = output_rows(layer, batch.teacher, at) - own.to(stored.device).reshape(-1)
        if batch.judged:
            judged.append((x, y))
        else:
            known.add(x, y)
    support, dense = as_rows(layer, student.masks[layer.weight]), as_rows(layer, stored)
    old = torch.where(support, dense, 0).double()
    rows = (torch.cat([x for x, _ in judged]), torch.cat([y for _, y in judged]))
    fit = best_fit(known, rows, old, support, sparse.pattern.vector_rows)
    with torch.no_grad():
        stored.copy_(as_stored(layer, torch.where(support, fit.weight.float(), dense), stored))
        if norm is not None:
            now = Spread(fit.weight @ known.mean_x + own.to(stored.device).reshape(-1), known.spread(fit.weight))
            match(student, norm, now, Spread(known.mean_y + own.to(stored.device).reshape(-1), known.spread_y))
        elif bias is not None:
            shift = shift_of(known, fit.weight)
            parameters[bias].add_(shift.to(stored).reshape(parameters[bias].shape))
    return LayerFit(layer.name, fit.before, fit.after, fit.ridge)


def _rematch(student: GraphModule, norm: Node, seen: Iterator[Seen]) -> None:
    """Set the statistics of a BatchNorm to what it is given now."""
    sums: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    for batch in seen:
        for name, values in (("student", batch.student), ("teacher", batch.teacher)):
            axes = [axis for axis in range(values.ndim) if axis != 1]
            exact = values.double()
            count = torch.full_like(exact.sum(axes), values.numel() // values.shape[1])
            sums[name].append(torch.stack([count, exact.sum(axes), exact.square().sum(axes)]))
    spreads = []
    for name in ("student", "teacher"):
        count, total, squares = torch.stack(sums[name]).sum(0)
        spreads.append(Spread(total / count, (squares / count - (total / count).square()).clamp_min(0)))
    match(student, norm, *spreads)
