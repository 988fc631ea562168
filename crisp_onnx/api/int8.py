"""From the emitted model to its int8 form: calibrate, and choose by measurement what computes in int8."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from crisp_onnx.api.emit import Emitted
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model
from crisp_onnx.passes import dense_passes, run_passes
from crisp_onnx.quantize import MOST_POINTS, Chosen, Emission, choose, spare_layers
from crisp_onnx.report.schema import Quantisation
from crisp_onnx.task import Classification

log = logging.getLogger(__name__)

INT8 = "int8"
NO_IMAGES = (
    "The file is in float32: nothing was to be learnt and no images were given, so there is nothing to calibrate int8 "
    "on. Give some with --data."
)


@dataclass(frozen=True)
class Int8:
    """`layers`: those in int8, by node name; `left`: why others stay in float32. `entry`: what the report says."""

    layers: frozenset[str]
    left: Mapping[str, str]
    entry: Quantisation


def in_int8(
    emitted: Emitted, prepared: Prepared, answers: Classification, images: Images | None, held_out: Images | None
) -> tuple[Emitted, Int8 | None]:
    """The emitted model in int8, and what was chosen; unchanged where there are no images to calibrate on.

    `answers`: what the outputs of the emitted model mean.

    Raises:
        CrispError: the model does not run on the images, or ONNX Runtime's quantiser fails.
    """
    if images is None:
        return replace(emitted, notes=(*emitted.notes, NO_IMAGES)), None
    emission = Emission(emitted.model, _folded(emitted), answers, prepared.size, prepared.batch)
    chosen = choose(emission, images, held_out)
    if chosen.loss.points > MOST_POINTS:
        chosen = spare_layers(emission, chosen, images, held_out)
    found = chosen.quantised
    entry = _entry(chosen, "held-out training images" if held_out is not None else "images that were learnt from")
    declined = (*emitted.declined, *found.declined)
    done = Int8(frozenset(found.layers), found.left, entry)
    return replace(emitted, model=found.model, declined=declined, notes=(*emitted.notes, _note(chosen))), done


def _folded(emitted: Emitted) -> Model:
    """The masked dense graph as hybrid operators stand for it: BatchNorm folded."""
    graph = emitted.masked.graph()
    run_passes(dense_passes(Plan()), graph)
    return emitted.masked.with_graph(graph)


def _entry(chosen: Chosen, judged_on: str) -> Quantisation:
    found = chosen.quantised
    return Quantisation(
        method=chosen.method,
        calibration_images=chosen.calibrated,
        points_lost=chosen.loss.points,
        error=chosen.loss.error,
        judged=chosen.judged,
        judged_on=judged_on,
        layers=len(found.layers),
        layers_float32=len(found.left),
    )


def _note(chosen: Chosen) -> str:
    total = len(chosen.quantised.layers) + len(chosen.quantised.left)
    lost = chosen.loss.points
    change = "as many answers are right" if lost == 0 else f"{abs(lost):.1f} points are {'lost' if lost > 0 else 'won'}"
    return (
        f"{len(chosen.quantised.layers)} of {total} layers compute in int8, with ranges by {chosen.method} over "
        f"{chosen.calibrated} images: {change} against the same network in float32 on {chosen.judged} images."
    )
