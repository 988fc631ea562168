"""From the user's words to what they mean for a model: names of its outputs, classes, preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.api.class_order import Named, named_by_folders, require_names
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import (
    Classes,
    InputForm,
    Labels,
    Preprocess,
    Source,
    aligned,
    input_form,
    is_class_folder,
    labels_from_metadata,
    labels_from_names,
    misfit,
    parse_preprocess,
    read_classes,
    read_labels,
    remedy,
    resolve,
    source_names,
)
from crisp_onnx.data.folder_order import Order
from crisp_onnx.data.labels import NUMBER
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model
from crisp_onnx.reading import shown
from crisp_onnx.task import read_stamp


@dataclass(frozen=True)
class NameOptions:
    """What the user says of the outputs' names: a file, the output that its first row names, the folders' order."""

    labels: Path | None = None
    offset: int | None = None
    order: Order | None = None


def find_labels(prepared: Prepared, form: InputForm, given: NameOptions, *sources: Source | None) -> Named:
    """Names of the outputs: from the file given, from the model's metadata, or from a data set with as many classes.

    Raises:
        CrispError: a label file that cannot be read, or does not go together with the outputs; class folders that
            cannot be numbers of outputs, or of which nothing is known; or an option about names that has no use.
    """
    named = _of_model(given, prepared)
    folder = next((Path(s) for s in sources if isinstance(s, (str, Path)) and is_class_folder(s)), None)
    if given.order is not None and folder is None:
        raise CrispError("--class-order is about class folders, and neither --data nor --eval-data is one.")
    if folder is not None:
        found = named_by_folders(folder, named.labels, prepared, form, given.order)
        named = Named(found.labels, (*named.notes, *found.notes))
    for source in sources:
        if named.labels is None and source is not None:
            named = _of_data(source, prepared.head.classes, named.notes)
    if named.labels is None and folder is not None:
        require_names(folder, prepared.head.classes)
    return named


def _of_data(source: Source, outputs: int, notes: tuple[str, ...]) -> Named:
    """The class names in which the labels of a data set count, if they are as many as the outputs.

    Names that are numbers of outputs mean those, in whatever order they stand.
    """
    names = source_names(source)
    if names is None:
        return Named(None, notes)
    where = shown(str(source))
    if all(NUMBER.fullmatch(name) and 0 <= int(name) < outputs for name in names):
        note = f"The classes of {where} are numbers, and each is taken for the output of that number."
        return Named(None, tuple(dict.fromkeys((*notes, note))))
    if len(names) != outputs:
        raise CrispError(
            f"The labels of {where} count in its {len(names)} class names, and it is not known which of the model's "
            f"{outputs} outputs these are. Give the names of the outputs with --labels."
        )
    return Named(labels_from_names(names, where), (*notes, f"The classes of {where} name the outputs, in their order."))


def _of_model(given: NameOptions, prepared: Prepared) -> Named:
    """Names from a label file or from the model's own metadata, that fit its outputs."""
    outputs = prepared.head.classes
    if given.labels is not None:
        return _counted(aligned(read_labels(given.labels), outputs, given.offset), outputs)
    stamp = read_stamp(prepared.source.metadata)
    found = (stamp.column_labels if stamp else None) or labels_from_metadata(prepared.source.metadata)
    if given.offset is not None:
        if found is None:
            raise CrispError("--labels-offset moves names, and there are none. Give them with --labels.")
        return _counted(aligned(found, outputs, given.offset), outputs)
    wrong = misfit(found, outputs) if found is not None else ""
    if found is None or not wrong:
        return Named(found)
    return Named(None, (f"{wrong[:1].upper()}{wrong[1:]}, so these names are not used. {remedy(found, outputs)}",))


def _counted(labels: Labels, outputs: int) -> Named:
    missing = [index for index in range(outputs) if index not in labels.entries]
    few = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return Named(labels, (f"{labels.source} has no name for output {few}.",) if missing else ())


def find_classes(given: Path | tuple[str | int, ...], labels: Labels | None, outputs: int) -> Classes:
    """The user's classes, from a file or one by one: an `int` is an output index, a word what `resolve` makes of it.

    Raises:
        CrispError: an unknown, ambiguous or repeated class, or none at all.
    """
    if isinstance(given, Path):
        return read_classes(given, labels, outputs)
    if not given:
        raise CrispError("The list of classes is empty. Give at least one output index, name or synset id.")
    indices = tuple(resolve(str(word), None if isinstance(word, int) else labels, outputs) for word in given)
    return Classes(indices, tuple(labels.name(index) if labels else str(index) for index in indices))


def find_form(text: str | None, source: Model, *data: Source | None) -> InputForm:
    """How the data become the model's input: by the preprocessing given, recorded or assumed, or as they are.

    Raises:
        CrispError: the preprocessing or the data do not fit the model's input, or it takes no images and there are no
            data for it.
    """
    stamp = read_stamp(source.metadata)
    return input_form(text if text is not None or stamp is None else stamp.preprocess, source.input, *data)


def find_preprocess(text: str | None, source: Model) -> Preprocess:
    """The preprocessing given, or the one assumed for the model's input of images."""
    return parse_preprocess(text, source.input)
