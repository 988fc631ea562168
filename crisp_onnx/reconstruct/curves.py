"""What each layer would lose at several densities after its fit: the outputs' errors, weighed by what the loss minds.

The dense network goes forward once, node after node. At each layer that may become sparse, some numbers of blocks are
tried: masks by w^2 H_jj, a ridge regression on their support, and the error of each output on images held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.format.matrix import from_matrix
from crisp_onnx.masks import Candidates, Curve, curve_through, score_layer
from crisp_onnx.model import WeightLayer
from crisp_onnx.progress import bar
from crisp_onnx.reconstruct.behind import behind
from crisp_onnx.reconstruct.choices import RIDGE
from crisp_onnx.reconstruct.evidence import Evidence
from crisp_onnx.reconstruct.frontier import Frontier, Needed, needed_behind
from crisp_onnx.reconstruct.gathering import CURVES, Look, gathered, parts_of, rows_an_image
from crisp_onnx.reconstruct.layer_fit import shift_of, solutions
from crisp_onnx.reconstruct.samples import as_rows, mask_rows
from crisp_onnx.reconstruct.targets import rows_of

SHARES = (1 / 16, 1 / 8, 0.2, 0.3, 0.45, 0.65, 1.0)
"""Of a block row's blocks that are tried."""


def error_curves(
    module: GraphModule,
    candidates: Candidates,
    minded: Mapping[str, Tensor],
    images: Images,
    judged: Images,
    *,
    batch_size: int,
    look: Look = CURVES,
    seed: int = 0,
) -> dict[str, Curve]:
    """By layer name, for every layer that may become sparse; `module` is the dense network.

    `minded`: by layer name (Cout,), what the loss minds of an error in each output. `look`: at how many images
    and rows.
    """
    module.eval()
    free = {layer.name: layer for layer in candidates.free}
    parts = parts_of(images, judged, look, candidates.layers, takes=module.takes, seed=seed)
    frontier = Frontier(module, module, parts, batch_size=batch_size)
    counts = tuple(len(part.places) for part in parts)
    generator = torch.Generator().manual_seed(seed)
    stops = [(number, node) for number, node in enumerate(module.nodes) if node.name in free]
    curves: dict[str, Curve] = {}
    with bar("allocation", len(stops)) as advance:
        for number, node in stops:
            layer = free[node.name]
            after = replace(behind(module, node, layer.shape[0], ()), addend=None)
            needed = Needed((), needed_behind(module, number).teacher)
            both = (
                replace(seen, student=seen.teacher)
                for seen in frontier.see(((), (node.inputs[0], node.outputs[0])), needed)
            )
            rows = rows_of(module, layer, node, after, both, rows_an_image(layer, counts, look), generator)
            dense = as_rows(layer, dict(module.named_parameters())[layer.weight])
            known, unseen = gathered(rows, dense, centred=after.shifts)
            curves[layer.name] = _curve(known, unseen, dense.double(), layer, candidates, minded[layer.name])
            advance(1)
    return curves


def _curve(
    known: Evidence, judged: tuple[Tensor, Tensor], dense: Tensor, layer: WeightLayer, candidates: Candidates,
    minded: Tensor,
) -> Curve:  # fmt: skip
    pattern = candidates.pattern
    columns = pattern.block_columns(layer.shape)
    counts = sorted({max(1, round(share * columns)) for share in SHARES})
    saliency = (dense.square() * known.squares).cpu().numpy()
    scored = score_layer(layer, from_matrix(saliency, layer.shape), pattern)
    supports = (mask_rows(layer, scored.keep(count).mask).to(dense.device) for count in counts)
    losses = [_loss(known, judged, dense, support, pattern.vector_rows, minded) for support in supports]
    unseen = judged[1].double()
    without = float(((unseen - known.mean_y).square().mean(0) * minded).sum())
    return curve_through(counts, losses, without, columns)


def _loss(
    known: Evidence, judged: tuple[Tensor, Tensor], dense: Tensor, support: Tensor, group: int, minded: Tensor
) -> float:
    x, y = judged
    weight = torch.where(support, dense, 0)
    if known.scale > 0:
        (weight,) = solutions(known, weight, support, group, [RIDGE])
    missed = x @ weight.float().T + shift_of(known, weight).float() - y
    return float((missed.square().mean(0, dtype=torch.float64) * minded).sum())
