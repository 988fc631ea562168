"""Choose by measurement on held-out images: how ranges are found, and which layers stay in float32."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.bridge import to_torch
from crisp_onnx.data import Images, Preprocess
from crisp_onnx.format.node import Grid
from crisp_onnx.model import Model, Size
from crisp_onnx.progress import bar
from crisp_onnx.quantize.calibration import MOST_IMAGES, Seen, look_at, sample
from crisp_onnx.quantize.dense import WEIGHTED
from crisp_onnx.quantize.grids import METHODS, grid_of, grids_by
from crisp_onnx.quantize.judge import Judge, Loss
from crisp_onnx.quantize.model import Quantised, quantise_model, quantised_tensors
from crisp_onnx.quantize.noise import LayerPlace, layer_noise
from crisp_onnx.task import Classification

MOST_POINTS = 0.3
"""What int8 may cost (see `Loss.lost`): below it nothing is left in float32 and nothing is trained again."""
MOST_JUDGED = 512
NOISE_IMAGES = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Emission:
    """One network in two forms: `hybrid` as it goes to a file in float32, `dense` with zeros in place, no BatchNorm.

    `task`: what its outputs mean. `batch`: images that it answers at a time, None for any number. `whole`: its ordinary
    convolutions that our int8 kernels compute (see `faster_whole`).
    """

    hybrid: Model
    dense: Model
    task: Classification
    size: Size
    batch: int | None
    whole: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Chosen:
    """`method`: how ranges were found (see `METHODS`). `loss`: against the same network in float32 on `judged` images.

    `grids`: of every tensor that may become bytes. `keep`: layers that stay in float32, and why.
    """

    quantised: Quantised
    method: str
    loss: Loss
    judged: int
    calibrated: int
    grids: Mapping[str, Grid]
    keep: Mapping[str, str]


def choose(
    emission: Emission, images: Images, held_out: Images | None, *, keep: Mapping[str, str] | None = None
) -> Chosen:
    """The network in int8, calibrated on `images` and judged on `held_out`, or on `images` where there are none.

    `keep`: layers that stay in float32, by node name, and why.

    Raises:
        CrispError: it does not run on the images, or ONNX Runtime's quantiser fails.
    """
    judged = sample(images if held_out is None else held_out, MOST_JUDGED)
    judge = Judge(emission.hybrid, judged, emission.task)
    tensors = quantised_tensors(emission.hybrid.graph())
    seen = look_at(emission.dense, tensors, images, batch=emission.batch)
    best = _best_method(emission, seen, pixel_grids(emission.hybrid, images), judge, keep or {})
    return replace(best, judged=len(judged), calibrated=min(len(images), MOST_IMAGES))


def rejudged(before: Emission, after: Emission, chosen: Chosen, images: Images, held_out: Images | None) -> Chosen:
    """The choice for the network after training, judged against the network before it in float32."""
    judged = sample(images if held_out is None else held_out, MOST_JUDGED)
    quantised = quantise_model(after.hybrid, chosen.grids, size=after.size, keep=chosen.keep, whole=after.whole)
    loss = Judge(before.hybrid, judged, before.task).loss(quantised.model)
    log.info("int8 after training: %s", _figures(loss))
    return replace(chosen, quantised=quantised, loss=loss)


def pixel_grids(model: Model, images: Images) -> dict[str, Grid]:
    """The grids of the model's input, as it is and cast, where it takes pixels: every pixel has its byte.

    Images to come may be brighter or darker than those that were looked at.
    """
    form, names = images.preprocess, [model.input.name]
    if not isinstance(form, Preprocess):
        return {}
    ends = np.concatenate(form.bounds()) if form.dtype != np.uint8 else np.array([0, 255])
    tensors = model.graph().tensors()
    for name in names:
        names += [node.outputs[0].name for node in tensors[name].outputs if node.op == "Cast"]
    return dict.fromkeys(names, grid_of(float(ends.min()), float(ends.max())))


def _best_method(
    emission: Emission, seen: Mapping[str, Seen], known: Mapping[str, Grid], judge: Judge, keep: Mapping[str, str]
) -> Chosen:
    """The way of finding ranges that loses least; the first of several that lose as much. `known`: these are given."""
    found = []
    with bar("int8", len(METHODS)) as advance:
        for method in METHODS:
            grids = {**grids_by(method, seen), **known}
            quantised = quantise_model(emission.hybrid, grids, size=emission.size, keep=keep, whole=emission.whole)
            found.append(Chosen(quantised, method, judge.loss(quantised.model), 0, 0, grids, keep))
            log.info("int8, ranges by %s: %s", method, _figures(found[-1].loss))
            advance(1)
    return min(found, key=lambda chosen: chosen.loss.rank)


def spare_layers(
    emission: Emission, chosen: Chosen, images: Images, held_out: Images | None, *, against: Model
) -> Chosen:
    """Leave the noisiest layers in float32, as few as bring the loss to `MOST_POINTS`: one, two, four and so on.

    Where no number up to half of them does, as many as lose least, if that is better by as much. `against`: the network
    in float32 that it is judged by.
    """
    judged = sample(images if held_out is None else held_out, MOST_JUDGED)
    judge = Judge(against, judged, emission.task)
    noise = _noise(emission, chosen, judged)
    ranked = sorted(noise, key=lambda name: -noise[name])
    count, best = 1, chosen
    while count <= len(ranked) // 2:
        keep = dict(chosen.keep) | {
            name: f"int8 costs accuracy here: {100 * noise[name] ** 0.5:.1f} % of its outputs are noise"
            for name in ranked[:count]
        }
        quantised = quantise_model(emission.hybrid, chosen.grids, size=emission.size, keep=keep, whole=emission.whole)
        loss = judge.loss(quantised.model)
        log.info("int8 without the %d noisiest layers: %s", count, _figures(loss))
        spared = replace(chosen, quantised=quantised, loss=loss, keep=keep)
        if loss.lost <= MOST_POINTS:
            return spared
        best = min(best, spared, key=lambda tried: tried.loss.lost)
        count *= 2
    return best if best.loss.lost <= chosen.loss.lost - MOST_POINTS else chosen


def _noise(emission: Emission, chosen: Chosen, judged: Images) -> dict[str, float]:
    size = emission.batch or min(NOISE_IMAGES, len(judged))
    inputs = next(iter(judged.batches(size)))[0]
    inputs = inputs[np.arange(size) % len(inputs)]  # a fixed batch is filled up
    graph = emission.dense.graph()
    done = frozenset(chosen.quantised.layers)
    places = [place for place in weight_places(graph) if place.name in done]
    return layer_noise(to_torch(emission.dense, (emission.task.logits,)), places, chosen.grids, inputs)


def weight_places(graph: gs.Graph) -> tuple[LayerPlace, ...]:
    """The layers of a dense graph whose weight is stored."""
    return tuple(
        _place(node) for node in graph.nodes if node.op in WEIGHTED and isinstance(node.inputs[1], gs.Constant)
    )


def _place(node: gs.Node) -> LayerPlace:
    rows_last = node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0))
    axis = int(np.ndim(node.inputs[1].values)) - 1 if rows_last else 0
    return LayerPlace(node.name, node.inputs[1].name, node.inputs[0].name, _end(node).name, axis)


def _end(node: gs.Node) -> gs.Variable:
    """What the layer's bytes stand for: its output behind the activation that it computes itself."""
    out = node.outputs[0]
    while len(out.outputs) == 1 and out.outputs[0].op in ("Relu", "Clip"):
        out = out.outputs[0].outputs[0]
    return out


def _figures(loss: Loss) -> str:
    expected = f"{loss.expected:.2f} +- {loss.spread:.2f} by the probabilities"
    return f"{loss.points:.2f} points lost, {expected}, error {loss.error:.3f}"
