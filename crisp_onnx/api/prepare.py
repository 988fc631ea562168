"""From the user's file to a model that every stage can work on: upgraded, simplified, its layers known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crisp_onnx.api.simplify import Simplified, simplify
from crisp_onnx.api.trials import no_fault_of
from crisp_onnx.errors import CrispError
from crisp_onnx.model import (
    DEFAULT_SIZE,
    Model,
    Size,
    WeightLayer,
    height_and_width,
    load,
    tensor_shapes,
    weight_layers,
)
from crisp_onnx.model.bounded import require_bounded
from crisp_onnx.model.macs import Beside, beside_layers
from crisp_onnx.model.overridable import note_on_overrides
from crisp_onnx.model.shapes import Shapes
from crisp_onnx.passes import Declined
from crisp_onnx.task import CLASSIFICATION, READERS, Head, Outputs, layers_behind

CLASSIFIER = "classifier: its rows are the classes (--head slice keeps only those of the user)"


@dataclass(frozen=True)
class Prepared:
    """`source` is the file as given; `simplified` its plain form, not compared with it; `layers` its weight layers.

    `beside`: what it multiplies outside of them. `outputs`: what each output is for the `task`; `asked`: those that the
    user chose.
    `left`: why layers stay dense, by name, where the answers decide it. `size`: height and width that open image sides
    count as. `notes`: what the user should know of the file.
    """

    source: Model
    simplified: Simplified
    layers: tuple[WeightLayer, ...]
    beside: Beside
    shapes: Shapes
    outputs: Outputs
    asked: tuple[str, ...]
    task: str
    left: Mapping[str, str]
    size: Size
    notes: tuple[str, ...]

    @property
    def model(self) -> Model:
        """The simplified graph."""
        return self.simplified.model

    @property
    def batch(self) -> int | None:
        """Images that the model answers at a time; None for any number."""
        return self.simplified.batch

    @property
    def declined(self) -> tuple[Declined, ...]:
        """What the simplifying passes left as it was."""
        return self.simplified.declined

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.beside.macs + sum(layer.macs for layer in self.layers)

    @property
    def head(self) -> Head:
        """The output that scores the classes.

        Raises:
            CrispError: there is none, or it is not clear which.
        """
        return self.outputs.chosen(self.asked, self.source.path.name)


def prepare(
    file: Path | Model,
    *,
    size: int | Size = DEFAULT_SIZE,
    output: str | Sequence[str] | None = None,
    task: str = CLASSIFICATION,
) -> Prepared:
    """Load a model, if it is not loaded yet, upgrade and simplify it.

    Open image sides count as `size`: pixels of both, or height and width.

    `output`: the name of the output that scores the classes, where the file has several, or the names of those that
    matter, that one first. `task`: what it does, one of `READERS`.

    Raises:
        CrispError: the file is broken, has several inputs, takes too much to run, or cannot be upgraded.
    """
    source, sides = load(file) if isinstance(file, Path) else file, height_and_width(size)
    require_bounded(source, sides)
    asked = () if output is None else (output,) if isinstance(output, str) else tuple(output)
    with no_fault_of(source, sides):
        return described(source, simplify(source), sides, asked, task)


def described(source: Model, simplified: Simplified, size: Size, asked: tuple[str, ...], task: str) -> Prepared:
    """What is known of the plain form of a file."""
    model = simplified.model
    shapes = tensor_shapes(model, size=size)
    outputs, layers = READERS[task](model, shapes), weight_layers(model, shapes)
    left = _left(model, layers, outputs, asked)
    beside = beside_layers(model, {layer.name for layer in layers}, shapes)
    return Prepared(
        source, simplified, layers, beside, shapes, outputs, asked, task, left, size,
        _notes(source, simplified, layers, beside),
    )  # fmt: skip


def again(prepared: Prepared, simplified: Simplified) -> Prepared:
    """What is known of the plain form after a second look at it, which is `simplified`."""
    if simplified.model is not prepared.model:
        return described(prepared.source, simplified, prepared.size, prepared.asked, prepared.task)
    notes = _notes(prepared.source, simplified, prepared.layers, prepared.beside)
    return replace(prepared, simplified=simplified, notes=notes)


def _notes(source: Model, simplified: Simplified, layers: Sequence[WeightLayer], beside: Beside) -> tuple[str, ...]:
    return tuple(filter(None, (note_on_overrides(source.proto), *simplified.notes, _unsized(layers), *beside.notes)))


def _unsized(layers: Sequence[WeightLayer]) -> str:
    unknown = sum(layer.positions is None for layer in layers)
    if not unknown:
        return ""
    why = "because the shapes of their outputs cannot be inferred"
    return f"MACs of {unknown} layers are unknown, {why}; each counts as one position."


def _left(model: Model, layers: Sequence[WeightLayer], outputs: Outputs, asked: tuple[str, ...]) -> dict[str, str]:
    """Why the classifiers stay dense, and the layers that do not lead to the answers: nothing says what they need."""
    left = {name: CLASSIFIER for head in outputs.heads for name in head.classifier}
    try:
        head = outputs.chosen(asked, model.path.name)
    except CrispError:  # said by those who need a classifier
        return left
    left |= dict.fromkeys(head.classifier, CLASSIFIER)
    behind = layers_behind(model.view, head.trained)
    judged = " or ".join(repr(each.output) for each in (head, *head.beside))
    unread = f"it does not lead to output {judged}, by which the model is judged"
    return {layer.name: unread for layer in layers if layer.name not in behind} | left
