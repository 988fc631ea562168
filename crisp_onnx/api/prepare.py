"""From the user's file to a model that every stage can work on: upgraded, simplified, its layers known."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.api.simplify import require_same_answers, simplify
from crisp_onnx.bridge import missing_operators
from crisp_onnx.errors import CrispError
from crisp_onnx.model import (
    DEFAULT_SIZE,
    Model,
    Size,
    WeightLayer,
    classifier_chain,
    height_and_width,
    load,
    tensor_shapes,
    weight_layers,
)
from crisp_onnx.model.classifier import ends_in_softmax
from crisp_onnx.model.overridable import note_on_overrides
from crisp_onnx.model.shapes import Shapes
from crisp_onnx.passes import Declined

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """`source` is the file as given; `model` the simplified graph; `layers` its weight layers.

    `size`: height and width that open image sides count as. `batch`: images that the model answers at a time, None for
    any. `notes`: what the user should know of the file.
    """

    source: Model
    model: Model
    layers: tuple[WeightLayer, ...]
    shapes: Shapes
    classifier: str
    probabilities: bool
    declined: tuple[Declined, ...]
    size: Size
    batch: int | None
    notes: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the weight layers for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def outputs(self) -> int:
        """Number of classes the model knows."""
        shape = self.shapes.get(self.model.output.name, ())
        wide = [side for side in shape[1:] if side != 1]
        if len(wide) > 1 or len(shape) < 2:
            raise CrispError(
                f"Output {self.model.output.name!r} has shape {shape}, which is not one row of class logits. "
                "Only classifiers can be compressed for classes."
            )
        return wide[0] if wide else 1


def prepare(path: Path, *, size: int | Size = DEFAULT_SIZE) -> Prepared:
    """Load, upgrade and simplify a model. Open image sides count as `size`: pixels of both, or height and width.

    Raises:
        CrispError: the file is broken, has several inputs, or cannot be upgraded.
    """
    size, source = height_and_width(size), load(path)
    simplified = simplify(source)
    if not missing_operators(simplified.model):
        simplified = require_same_answers(source, simplified, size=size)
    model = simplified.model
    shapes = tensor_shapes(model, size=size)
    graph = model.graph()
    chain = classifier_chain(graph)
    return Prepared(
        source,
        model,
        weight_layers(model, shapes),
        shapes,
        chain[0].name if chain else "",
        ends_in_softmax(graph),
        simplified.declined,
        size,
        simplified.batch,
        tuple(filter(None, (note_on_overrides(source.proto), *simplified.notes))),
    )
