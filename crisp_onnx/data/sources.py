"""Open any source of images - folder, .npz, CIFAR archive or Python iterable - and keep the user's classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from crisp_onnx.data.cifar import cifar_names, find_cifar, read_cifar
from crisp_onnx.data.classes import Classes, candidates, wanted
from crisp_onnx.data.folder import read_folder
from crisp_onnx.data.found import Found
from crisp_onnx.data.images import Images, Indices, InputForm
from crisp_onnx.data.labelled import LabelledArrays, require_outputs
from crisp_onnx.data.labels import NUMBER, Labels
from crisp_onnx.data.npz import npz_names, npz_rows, read_npz
from crisp_onnx.data.pairs import Pair, read_pairs
from crisp_onnx.data.preprocess_text import parse_preprocess, takes_images
from crisp_onnx.data.values import AsIs, as_is
from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import TensorSpec
from crisp_onnx.reading import shown

log = logging.getLogger(__name__)

Source = str | Path | Iterable[Pair]
ANY = Classes((0,), ("any",))
"""Stands for classes where nobody asks for some."""


def input_form(text: str | Path | None, spec: TensorSpec, *sources: Source | None) -> InputForm:
    """How the images of `sources` become the model's input `spec`.

    Pixels go through the preprocessing that `text` gives, as `parse_preprocess` reads it. What an `.npz` holds for an
    input that takes no images, or as other numbers than uint8, goes in as it is.

    Raises:
        CrispError: the preprocessing, or the shape or type of the values, does not fit the input.
    """
    given = [(path, npz_rows(path)) for path in map(_npz_path, sources) if path is not None]
    values = [(path, rows) for path, rows in given if rows.dtype != np.uint8 or not takes_images(spec)]
    if not values:
        return parse_preprocess(text, spec)
    if len(values) < sum(source is not None for source in sources):
        raise CrispError(
            f"{shown(str(values[0][0]))} holds values that go into the model as they are, and the other data do not. "
            "Give both in one form."
        )
    if text is not None:
        why, remedy = "", ", or save the pixels as uint8"
        if values[0][1].dtype == np.uint8:
            shape = "x".join("?" if side is None else str(side) for side in spec.shape)
            images = "images, 1 or 3 channels of float or uint8 values"
            why, remedy = f" because input {spec.name!r} ({shape}) takes no {images}, but {spec.dtype}", ""
        raise CrispError(
            f"x of {shown(str(values[0][0]))} holds {values[0][1].dtype} values, which go into the model as they "
            f"are{why}. Leave --preprocess out{remedy}."
        )
    forms = [as_is(spec, rows.shape, rows.dtype, f"x of {shown(str(path))}") for path, rows in values]
    if len(set(forms)) > 1:
        raise CrispError(f"{' and '.join(shown(str(path)) for path, _ in values)} hold rows of different shapes.")
    return forms[0]


def open_images(
    source: Source,
    classes: Classes,
    labels: Labels | None,
    form: InputForm,
    outputs: int | None = None,
    *,
    each: bool = True,
) -> Images:
    """The images of the user's classes in `source`, labelled with the model's output indices; some of `each` class.

    `outputs`: how many the model has, where that is known; labels that count in them must not go beyond.

    A source is a folder of class folders, or of images without labels; an `.npz` with `x`, and `y` and `classes` where
    there are labels; CIFAR-10 or CIFAR-100 for Python as folder or archive (append `/train` or `/test`; train by
    default); or an iterable of (uint8 image, label) pairs, which is gone through once and spooled to a temporary file.

    Raises:
        CrispError: the source is missing, of no known kind or damaged, holds no images of one of the classes, or labels
            that are no outputs.
    """
    if isinstance(form, AsIs):
        path = _npz_path(source)
        if path is None:
            raise CrispError(f"The model takes rows of {form.shape}. Give them as an .npz with x and y.")
        return _found(read_npz(path, form), classes, labels, path, outputs).keep(classes, form, each=each)
    if not isinstance(source, (str, Path)):
        # The pairs are kept as fitted, so a short side before the crop must not be applied a second time.
        return read_pairs(source, classes, labels, form, outputs).keep(classes, replace(form, resize=None), each=each)
    path = Path(source)
    cifar = find_cifar(path)
    if cifar is None and path.is_dir():
        return read_folder(path, classes, labels, form).keep(classes, form, each=each)
    arrays = read_cifar(*cifar) if cifar else read_npz(_checked_npz(path))
    return _found(arrays, classes, labels, path, outputs).keep(classes, form, each=each)


def open_unlabelled(path: Path, form: InputForm) -> Images:
    """All images of an `.npz`, a CIFAR archive or a folder without folders; any labels are passed over.

    Raises:
        CrispError: the source is missing, of no known kind or damaged, or holds no images.
    """
    cifar = find_cifar(path)
    if cifar is None and path.is_dir() and not isinstance(form, AsIs):
        return read_folder(path, ANY, None, form).keep(ANY, form, each=False)
    arrays = read_cifar(*cifar) if cifar else read_npz(_checked_npz(path), form, labelled=False)
    return Found(arrays.store, arrays.rows, None, shown(str(path)), arrays.left_out).keep(ANY, form, each=False)


def source_names(source: Source) -> tuple[str, ...] | None:
    """The class names in which the labels of an `.npz` or of a CIFAR archive count; None where they count in outputs.

    Folders have names too, but are in no certain order.

    Raises:
        CrispError: the source is missing or damaged.
    """
    if not isinstance(source, (str, Path)):
        return None
    path = Path(source)
    cifar = find_cifar(path)
    if cifar is not None:
        return cifar_names(cifar[0])
    return None if path.is_dir() else npz_names(_checked_npz(path))


def is_class_folder(source: str | Path) -> bool:
    """Whether it is a folder of images, and no CIFAR data set."""
    path = Path(source)
    return path.is_dir() and find_cifar(path) is None


def _npz_path(source: Source | None) -> Path | None:
    """The path of an `.npz` that is there; None for every other source."""
    if not isinstance(source, (str, Path)) or Path(source).suffix.lower() != ".npz":
        return None
    return Path(source) if Path(source).is_file() else None


def _checked_npz(path: Path) -> Path:
    if not path.exists():
        raise CrispError(f"There are no images at {path}: no such file or folder. Correct the path.")
    if path.suffix.lower() != ".npz" or not path.is_file():
        raise CrispError(
            f"{path} is no source of images. Give a folder of class folders, an .npz with x and y, or a CIFAR archive "
            "for Python."
        )
    return path


def _found(arrays: LabelledArrays, classes: Classes, labels: Labels | None, path: Path, outputs: int | None) -> Found:
    where = shown(str(path))
    if arrays.labels is None:
        return Found(arrays.store, arrays.rows, None, where, arrays.left_out)
    if arrays.names is None:
        require_outputs(arrays.labels, outputs, f"y of {where} holds")
    meant = _outputs(arrays.labels, arrays.names, classes, labels, path)
    return Found(arrays.store, arrays.rows, meant, where, arrays.left_out)


def _outputs(
    numbers: Indices, names: tuple[str, ...] | None, classes: Classes, labels: Labels | None, path: Path
) -> Indices:
    """Output index of each label (n,); -1 for those of no wanted class. Without `labels`, names may be indices."""
    if names is None:
        return numbers
    if labels is None:
        if all(NUMBER.fullmatch(name) for name in names):
            return np.array([int(name) for name in names], np.int64)[numbers]
        log.warning("The labels of %s are read as output indices, because no names of the outputs are known.", path)
        return numbers
    table = np.full(len(names), -1, np.int64)
    for label in np.unique(numbers):
        name = names[label]
        if label in candidates(name, labels):
            table[label] = label  # settles a name that several outputs bear
            continue
        try:
            output = wanted(name, classes, labels)
        except CrispError as error:
            raise CrispError(f"Class {label} of {path}: {error}") from None
        table[label] = -1 if output is None else output
    return np.asarray(table[numbers])
