"""Open any source of images - folder, .npz, CIFAR archive or Python iterable - and keep the user's classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from crisp_onnx.data.cifar import cifar_names, find_cifar, read_cifar
from crisp_onnx.data.classes import Classes, candidates, wanted
from crisp_onnx.data.folder import class_folders, read_folder
from crisp_onnx.data.found import Found
from crisp_onnx.data.images import Images, Indices
from crisp_onnx.data.labels import Labels, labels_from_names
from crisp_onnx.data.npz import LabelledArrays, read_npz
from crisp_onnx.data.pairs import Pair, read_pairs
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.errors import CrispError

log = logging.getLogger(__name__)

Source = str | Path | Iterable[Pair]


def open_images(source: Source, classes: Classes, labels: Labels | None, preprocess: Preprocess) -> Images:
    """The images of the user's classes in `source`, labelled with the model's output indices.

    A source is a folder of class folders; an `.npz` with uint8 `x`, `y` and optionally `classes`; CIFAR-10 or
    CIFAR-100 for Python as folder or archive (append `/train` or `/test`; train by default); or an iterable of
    (uint8 image, label) pairs, which is gone through once and spooled to a temporary file.

    Raises:
        CrispError: the source is missing, of no known kind or damaged, or holds no images of one of the classes.
    """
    if not isinstance(source, (str, Path)):
        # The pairs are kept as fitted, so a short side before the crop must not be applied a second time.
        return read_pairs(source, classes, labels, preprocess).keep(classes, replace(preprocess, resize=None))
    path = Path(source)
    cifar = find_cifar(path)
    if cifar is None and path.is_dir():
        return read_folder(path, classes, labels, preprocess).keep(classes, preprocess)
    arrays = read_cifar(*cifar) if cifar else _npz(path)
    return Found(arrays.store, _outputs(arrays, classes, labels, path), str(path)).keep(classes, preprocess)


def source_labels(source: Source, outputs: int) -> Labels | None:
    """Names of the model's outputs as the data set gives them, or None.

    An `.npz` with `classes`, a CIFAR archive, or an image folder with exactly one folder an output, in sorted order
    as training scripts number them. Only a data set with as many classes as the model has outputs counts.

    Raises:
        CrispError: the source is missing or damaged.
    """
    if not isinstance(source, (str, Path)):
        return None
    path = Path(source)
    cifar = find_cifar(path)
    names: tuple[str, ...] | None
    if cifar is not None:
        names = cifar_names(cifar[0])
    else:
        names = tuple(class_folders(path)) if path.is_dir() else _npz(path).names
    if names is None or len(names) != outputs or len(set(names)) != outputs:
        return None
    log.info("names of the outputs: the classes of %s, in their order", path)
    return labels_from_names(names, str(path))


def _npz(path: Path) -> LabelledArrays:
    if not path.exists():
        raise CrispError(f"There are no images at {path}: no such file or folder. Correct the path.")
    if path.suffix.lower() != ".npz":
        raise CrispError(
            f"{path} is no source of images. Give a folder of class folders, an .npz with x and y, or a CIFAR archive "
            "for Python."
        )
    return read_npz(path)


def _outputs(arrays: LabelledArrays, classes: Classes, labels: Labels | None, path: Path) -> Indices:
    """Output index of each label (n,); -1 for those of no wanted class."""
    if arrays.names is None:
        return arrays.labels
    if labels is None:
        log.warning("The labels of %s are read as output indices, because no names of the outputs are known.", path)
        return arrays.labels
    table = np.full(len(arrays.names), -1, np.int64)
    for label in np.unique(arrays.labels):
        name = arrays.names[label]
        if label in candidates(name, labels):
            table[label] = label  # settles a name that several outputs bear
            continue
        try:
            output = wanted(name, classes, labels)
        except CrispError as error:
            raise CrispError(f"Class {label} of {path}: {error}") from None
        table[label] = -1 if output is None else output
    return np.asarray(table[arrays.labels])
