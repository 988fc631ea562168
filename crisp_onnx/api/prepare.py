"""From the user's file to a model that every stage can work on: upgraded, simplified, its layers and classes known."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.data import (
    Classes,
    Labels,
    Preprocess,
    Source,
    labels_from_metadata,
    parse_preprocess,
    read_classes,
    read_labels,
    resolve,
    source_labels,
)
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, WeightLayer, classifier_chain, load, tensor_shapes, upgrade, weight_layers
from crisp_onnx.model.classifier import ends_in_softmax
from crisp_onnx.model.shapes import Shapes, with_value_info
from crisp_onnx.passes import SIMPLIFY, Declined, run_passes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """`source` is the file as given; `model` the simplified graph; `layers` its weight layers.

    `size`: pixels that open image sides count as.
    """

    source: Model
    model: Model
    layers: tuple[WeightLayer, ...]
    shapes: Shapes
    classifier: str
    probabilities: bool
    declined: tuple[Declined, ...]
    size: int

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


def prepare(path: Path, *, size: int = 224) -> Prepared:
    """Load, upgrade and simplify a model. Open image sides count as `size` pixels.

    Raises:
        CrispError: the file is broken, has several inputs, or cannot be upgraded.
    """
    source = load(path)
    upgraded = with_value_info(upgrade(source))  # the padding that auto_pad means depends on shapes
    graph = upgraded.graph()
    declined = run_passes(SIMPLIFY, graph)
    model = with_value_info(upgraded.with_graph(graph))
    shapes = tensor_shapes(model, size=size)
    simplified = model.graph()
    chain = classifier_chain(simplified)
    return Prepared(
        source,
        model,
        weight_layers(model, shapes),
        shapes,
        chain[0].name if chain else "",
        ends_in_softmax(simplified),
        declined,
        size,
    )


def find_labels(path: Path | None, prepared: Prepared, *sources: Source | None) -> Labels | None:
    """Names of the outputs: from the file, from the model's metadata, or from a data set with as many classes.

    Raises:
        CrispError: a label file that cannot be read or has fewer rows than the model has outputs.
    """
    if path is not None:
        return read_labels(path)
    found = labels_from_metadata(prepared.source.metadata)
    for source in sources:
        if found is None and source is not None:
            found = source_labels(source, prepared.outputs)
    return found


def find_classes(given: Path | tuple[str | int, ...], labels: Labels | None, outputs: int) -> Classes:
    """The user's classes, from a file or given one by one.

    Raises:
        CrispError: an unknown, ambiguous or repeated class, or none at all.
    """
    if isinstance(given, Path):
        return read_classes(given, labels, outputs)
    if not given:
        raise CrispError("The list of classes is empty. Give at least one output index, name or synset id.")
    indices = tuple(resolve(str(word), labels, outputs) for word in given)
    names = tuple(labels.entries[i].name if labels and i in labels.entries else str(i) for i in indices)
    return Classes(indices, names)


def find_preprocess(text: str | None, source: Model) -> Preprocess:
    """The preprocessing given, or the one assumed for the model's input."""
    return parse_preprocess(text, source.input)
