"""Open images whose pixels have labels: a folder with images/ and labels/, or an `.npz` whose y is (n, h, w)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from crisp_onnx.data.classes import Classes, candidates
from crisp_onnx.data.folder import read_folder, sound_files
from crisp_onnx.data.images import Images, Indices, InputForm
from crisp_onnx.data.labels import Labels
from crisp_onnx.data.npz import read_pixel_npz
from crisp_onnx.data.pixel_labels import ELSEWHERE, IGNORED, LabelArray, check_values, label_files, read_labels_of
from crisp_onnx.data.pixels import ORIENTATION
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.survey import survey
from crisp_onnx.data.tally import Reason, Tally
from crisp_onnx.data.walk import entries, files, identity
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.reading import border, shown

log = logging.getLogger(__name__)

IMAGES, LABELS = "images", "labels"
WITHOUT_LABELS = Reason("image without labels", "images without labels")
WITHOUT_IMAGE = Reason("label file without an image", "label files without an image")
NO_PNG = Reason("label file that is no PNG", "label files that are no PNG")
MOST_LABEL = 1 << 16
THREADS, FILES_PER_TASK = 2, 16


def open_segmented(source: object, classes: Classes, labels: Labels | None, form: InputForm, outputs: int) -> Images:
    """All images of `source`, with the labels of their pixels where it has any, read batch by batch.

    A source is a folder with the folders `images` and `labels`, in which a PNG of the same stem holds the output index
    of each pixel; a folder of images alone, which have no labels; or an `.npz` with `x` and `y` (n, h, w). The label
    255 is ignored. All labels are looked at once.

    Raises:
        CrispError: the source is of another kind or damaged, labels do not go with their images or with the model's
            outputs, or no pixel has one of the classes.
    """
    if not isinstance(source, (str, Path)):
        raise CrispError(
            "Pixels have labels in folders and .npz files only. Give a folder with images/ and labels/, or an .npz."
        )
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, classes, labels, form, outputs)
    if not path.is_file() or path.suffix.lower() != ".npz":
        raise CrispError(
            f"{shown(str(path))} is no source of images with labels for pixels. Give a folder with images/ and "
            "labels/, or an .npz with x and y (n, h, w)."
        )
    return _of_npz(path, classes, labels, form, outputs)


def _of_folder(root: Path, classes: Classes, labels: Labels | None, form: InputForm, outputs: int) -> Images:
    if not isinstance(form, Preprocess):
        raise CrispError(f"The model takes rows of {form.shape}. Give them as an .npz with x and y.")
    found = {entry.name: entry for entry in entries(root) if entry.is_folder and not entry.hidden}
    if LABELS not in found:
        if found and IMAGES not in found:
            raise CrispError(
                f"{shown(str(root))} has no folders {IMAGES}/ and {LABELS}/ with a PNG of labels for each image. "
                "--task segmentation takes no class folders."
            )
        alone = read_folder(root / IMAGES if found else root, classes, labels, form)
        if alone.outputs is not None:
            raise CrispError(
                f"The images in {shown(str(root / IMAGES))} lie in folders. Put them into one, or add {LABELS}/."
            )
        return alone.keep(classes, form)
    if IMAGES not in found:
        raise CrispError(
            f"{shown(str(root))} has a folder {LABELS}/ but none of the name {IMAGES}/. Put the images there."
        )
    tally, above = Tally(), identity(root)
    pictures, told = _by_stem(files(found[IMAGES], above), IMAGES, root, tally)
    truths, more = _by_stem(files(found[LABELS], above), LABELS, root, tally)
    told |= more
    for stem in [stem for stem, path in truths.items() if not path.lower().endswith(".png")]:
        tally.add(NO_PNG, truths.pop(stem))
        told.add(stem)
    for stem in sorted(pictures.keys() - truths.keys() - told):
        tally.add(WITHOUT_LABELS, pictures[stem])
    for stem in sorted(truths.keys() - pictures.keys() - told):
        tally.add(WITHOUT_IMAGE, truths[stem])
    stems = sorted(pictures.keys() & truths.keys())
    seen = survey(str(root), [pictures[stem] for stem in stems], form.range, tally)
    kept = [stems[place] for place in seen.sound]
    where = f"image folder {shown(str(root))}"
    store = sound_files(root, [pictures[stem] for stem in stems], seen)
    pixel_labels = label_files(root, (truths[stem] for stem in kept))
    if not kept:
        left = "; ".join(tally.sentences())
        raise CrispError(
            f"There are no images with labels in {shown(str(root))}.{f' Left out: {left}.' if left else ''}"
        )
    counts = _counted_files(root, store.paths, pixel_labels.paths)
    images = Images(store, np.arange(len(kept)), None, form, where, tally.sentences(), seen.notes, pixel_labels)
    return _checked(images, counts, classes, outputs, f"Label files of {shown(str(root))}")


def _by_stem(
    found: Iterable[tuple[str, Reason | None]], part: str, root: Path, tally: Tally
) -> tuple[dict[str, str], set[str]]:
    """Paths under `root` by their stems, what they are without the folder and the suffix; and stems of what is wrong.

    What goes with a wrong file is told of with that file, and not once more for what it lacks.
    """
    paths: dict[str, str] = {}
    left: set[str] = set()
    for path, wrong in found:
        stem = str(PurePosixPath(path).relative_to(part).with_suffix(""))
        if wrong is not None:
            tally.add(wrong, path)
            left.add(stem)
            continue
        if stem in paths:
            raise CrispError(
                f"{shown(paths[stem])} and {shown(path)} in {shown(str(root))} have one stem, so that it is not known "
                "which goes with what. Rename one."
            )
        paths[stem] = path
    return paths, left


def _counted_files(root: Path, images: tuple[str, ...], truths: tuple[str, ...]) -> Indices:
    """How many pixels of all files have each label.

    Raises:
        CrispError: labels cannot be read or have other sides than their image.
    """

    def count(start: int) -> Indices:
        total = np.zeros(MOST_LABEL, np.int64)
        for place in range(start, min(start + FILES_PER_TASK, len(images))):
            labels = read_labels_of(root / truths[place])
            sides = _sides(root / images[place])
            if labels.shape != sides:
                raise CrispError(
                    f"The labels {shown(str(root / truths[place]))} are {labels.shape[0]}x{labels.shape[1]} pixels, "
                    f"but their image is {sides[0]}x{sides[1]}. Save a label for each pixel of the image."
                )
            total += _histogram(labels.reshape(-1), shown(str(root / truths[place])))
        return total

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="labels")
    total = np.zeros(MOST_LABEL, np.int64)
    try:
        with bar("looking at the labels", len(images)) as advance:
            for some in pool.map(count, range(0, len(images), FILES_PER_TASK)):
                total += some
                advance(FILES_PER_TASK)
    finally:
        pool.shutdown(cancel_futures=True)
    return total


def _sides(path: Path) -> tuple[int, int]:
    """Height and width of an image, upright."""
    with border(f"The image {shown(str(path))} cannot be read", "Replace or delete it."), Image.open(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def _histogram(labels: np.ndarray, where: str) -> Indices:
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high >= MOST_LABEL:
        raise CrispError(
            f"{where} hold the label {low if low < 0 else high}, which is no output. Save the indices of the outputs, "
            f"and {IGNORED} where a pixel is not to count."
        )
    return np.bincount(labels, minlength=MOST_LABEL)


def _of_npz(path: Path, classes: Classes, labels: Labels | None, form: InputForm, outputs: int) -> Images:
    arrays = read_pixel_npz(path, form)
    where = shown(str(path))
    if arrays.labels is None:
        note = f"The images of {where} have no labels: what the model itself answers is learnt."
        return Images(arrays.store, arrays.rows, None, form, where, arrays.left_out, (note,))
    table = None if arrays.names is None else _outputs(arrays.names, classes, labels, path)
    truths = LabelArray(arrays.labels, table)
    counts = np.zeros(MOST_LABEL, np.int64)
    known = MOST_LABEL if arrays.names is None else len(arrays.names)
    with bar("looking at the labels", len(arrays.rows)) as advance:
        for row in arrays.rows:
            stored = _histogram(np.asarray(arrays.labels[row]).reshape(-1), f"y of {where}")
            wrong = [int(value) for value in np.flatnonzero(stored) if value >= known and value != IGNORED]
            if wrong:
                raise CrispError(f"y of {where} holds the label {wrong[0]}, but there are {known} class names.")
            counts += stored if table is None else _moved(stored, table)
            advance(1)
    images = Images(arrays.store, arrays.rows, None, form, where, arrays.left_out, (), truths)
    return _checked(images, counts, classes, outputs, f"Pixels of {where}")


def _outputs(names: tuple[str, ...], classes: Classes, labels: Labels | None, path: Path) -> Indices | None:
    """The output that each class name of an archive means; `ELSEWHERE` where it is none."""
    if labels is None:
        log.warning("The labels of %s are read as output indices, because no names of the outputs are known.", path)
        return None
    table = np.full(len(names), ELSEWHERE, np.int64)
    for place, name in enumerate(names):
        found = candidates(name, labels)
        if place in found:
            table[place] = place
        elif len(found) == 1:
            table[place] = found[0]
        elif any(index in classes.indices for index in found):
            raise CrispError(f"Class {place} of {shown(str(path))}: {name!r} may be several outputs. Give its index.")
    return table


def _moved(counts: Indices, table: Indices) -> Indices:
    """Counts by label as counts by output, without those of no output."""
    total = np.zeros(MOST_LABEL, np.int64)
    total[IGNORED] = counts[IGNORED]
    for label, output in enumerate(table):
        if output != ELSEWHERE and label != IGNORED:
            total[output] += counts[label]
    return total


def _checked(images: Images, counts: Indices, classes: Classes, outputs: int, where: str) -> Images:
    """The images, with a note on the pixels that do not count.

    Raises:
        CrispError: a label is no output, or no pixel has one of the classes.
    """
    check_values(counts, outputs, where)
    empty = [name for index, name in zip(classes.indices, classes.names, strict=True) if not counts[index]]
    if empty:
        raise CrispError(
            f"No pixel in {images.source} is of class {empty[0]}. Add images of it, or take it off the class list."
        )
    total = int(counts.sum())
    ignored, own = int(counts[IGNORED]), int(counts[list(classes.indices)].sum())
    note = (
        f"Of the pixels of {images.source}, {100 * own / total:.1f} % are of your classes and "
        f"{100 * ignored / total:.1f} % are labelled {IGNORED}, which are neither learnt nor judged; those of other "
        "classes are not learnt, and judged over all outputs alone."
    )
    return replace(images, notes=(*images.notes, note))


def segmented_sources(*sources: object) -> Iterator[Path]:
    """The archives among some sources, whose class names may name the outputs; folders name none."""
    for source in sources:
        if isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".npz" and Path(source).is_file():
            yield Path(source)
