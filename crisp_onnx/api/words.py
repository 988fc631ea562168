"""From the user's words to what they mean for a model: names of its outputs, classes, preprocessing."""

from __future__ import annotations

from pathlib import Path

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import (
    Classes,
    InputForm,
    Labels,
    Preprocess,
    Source,
    input_form,
    labels_from_metadata,
    parse_preprocess,
    read_classes,
    read_labels,
    resolve,
    source_labels,
)
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model


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
            found = source_labels(source, prepared.head.classes)
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


def find_form(text: str | None, source: Model, *data: Source | None) -> InputForm:
    """How the data become the model's input: by the preprocessing given or assumed, or as they are.

    Raises:
        CrispError: the preprocessing or the data do not fit the model's input, or it takes no images and there are no
            data for it.
    """
    return input_form(text, source.input, *data)


def find_preprocess(text: str | None, source: Model) -> Preprocess:
    """The preprocessing given, or the one assumed for the model's input of images."""
    return parse_preprocess(text, source.input)
