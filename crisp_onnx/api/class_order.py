"""Class folders that number the outputs: in which order they do is asked of the untouched model.

Torchvision and Keras sort folders as text (1, 10, 11, 2), timm as people count (1, 2, 10, 11), and the file does not
say which. The model itself does: read in the trainer's order, it is right about the images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import InputForm, Label, Labels, Preprocess, labels_from_names
from crisp_onnx.data.folder import SPLITS, class_folders
from crisp_onnx.data.folder_order import ORDERS, Order, folder_images, in_order
from crisp_onnx.data.labels import NUMBER
from crisp_onnx.data.tally import listed
from crisp_onnx.data.walk import entries, files, identity
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown
from crisp_onnx.runtime.evaluate import open_stock, outputs_of
from crisp_onnx.task import task_of
from crisp_onnx.task.score import preferred

log = logging.getLogger(__name__)

MOST_FOLDERS, MOST_IMAGES, MOST_OF_A_FOLDER = 64, 256, 24
# By chance, one order of two that are as good would win so clearly less often than this.
CHANCE = 0.05
NAMED = 6


@dataclass(frozen=True)
class Named:
    """Names of the outputs, None where none are known, and what the user should know of them."""

    labels: Labels | None
    notes: tuple[str, ...] = ()


def named_by_folders(
    root: Path, labels: Labels | None, prepared: Prepared, form: InputForm, order: Order | None
) -> Named:
    """`labels` with the names of the class folders under `root`, where these number the outputs without being names.

    Raises:
        CrispError: `order` is given and there is not one folder an output, or folders are numbered beyond the outputs.
    """
    folders, outputs = class_folders(root), prepared.head.classes
    numbered = bool(folders) and all(NUMBER.fullmatch(folder) for folder in folders)
    known = [folder for folder in folders if labels is not None and labels.candidates(folder)]
    if order is None:
        unnamed = labels is None or (numbered and len(known) < len(folders))
        if not unnamed or not folders or set(folders) <= set(SPLITS):
            return Named(labels)
        if len(folders) != outputs:
            if numbered and max(map(int, folders)) >= outputs:
                raise CrispError(
                    f"The folders of {shown(str(root))} are numbered up to {max(map(int, folders))}, but the model's "
                    f"outputs are 0 to {outputs - 1}, so that the numbers are no outputs. Rename the folders to output "
                    "indices, or give names with --labels."
                )
            return Named(labels)
    elif labels is not None and known and not (numbered and len(known) < len(folders)):
        some = "The" if len(known) == len(folders) else f"{len(known)} of the {len(folders)}"
        raise CrispError(
            f"{some} class folders of {shown(str(root))} bear names that {labels.source} gives to outputs, so that no "
            "order numbers them. Leave --class-order out."
        )
    elif len(folders) != outputs:
        raise CrispError(
            f"--class-order numbers the outputs by their folders, but {shown(str(root))} has {len(folders)} class "
            f"folders and the model {outputs} outputs. Give --labels instead."
        )
    ways = {way: in_order(folders, way) for way in ORDERS}
    chosen, note = (order, "as --class-order says") if order else _decided(root, ways, prepared, form)
    names = ways[chosen]
    shown_names = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    note = (
        f"Neither the model nor a label file names the class folders of {shown(str(root))}, so they number the outputs "
        f"in {chosen} order ({shown_names}): {note}."
    )
    log.warning(note) if len(set(ways.values())) > 1 else log.info(note)
    return Named(_with(labels, names, root), (note,))


def require_names(root: Path, outputs: int) -> None:
    """Refuse class folders of which it is not known which outputs they are.

    Raises:
        CrispError: no folder's name is an output's index, and there is not one folder an output.
    """
    folders = class_folders(root)
    if not folders or len(folders) == outputs or any(NUMBER.fullmatch(name) or name in SPLITS for name in folders):
        return
    above = identity(root)
    inside = [entry for entry in entries(root) if entry.is_folder and not entry.hidden]
    bare = [shown(entry.name) for entry in inside if all(wrong is not None for _, wrong in files(entry, above))]
    without = f" Without an image: {listed(bare[:NAMED], len(bare))}." if bare else ""
    count = "1 class folder faces" if len(folders) == 1 else f"{len(folders)} class folders face"
    raise CrispError(
        f"In {shown(str(root))}, {count} {outputs} outputs ({listed(folders[:NAMED], len(folders))}), so it is not "
        f"known which output each is.{without} Take away what is no class, or give the names of the outputs with "
        "--labels."
    )


def mapping_note(labels: Labels, indices: Sequence[int]) -> str:
    """Which output each class is, for a user whose data set named them."""
    pairs = [f"{labels.name(index)} is output {index}" for index in indices[: 2 * NAMED]]
    return f"Classes: {', '.join(pairs)}{', ...' if len(indices) > len(pairs) else ''}."


def _with(labels: Labels | None, names: Sequence[str], root: Path) -> Labels:
    """The names of folders as further names of the outputs, or as their only ones."""
    folders = labels_from_names(names, f"the folders of {shown(str(root))}")
    if labels is None:
        return folders
    entries = {
        index: Label(known.wnid, (*known.names, *folders.entries[index].names), known.whole)
        if (known := labels.entries.get(index))
        else folders.entries[index]
        for index in folders.entries
    }
    return Labels(entries, labels.source, of_data=True)


def _decided(
    root: Path, ways: Mapping[Order, tuple[str, ...]], prepared: Prepared, form: InputForm
) -> tuple[Order, str]:
    """The order by which the model is right more often, and how that was found."""
    if len(set(ways.values())) == 1:
        return "lexical", "lexical and natural order are the same"
    if not isinstance(form, Preprocess):
        raise CrispError("Rows of values do not come from folders. Give an .npz.")
    right, n = _right(root, ways, prepared, form)
    best, other = sorted(ORDERS, key=lambda way: right[way], reverse=True)
    figures = f"the model is right about {right[best]} of {n} of their images"
    beside = f"about {right[other]} in {other} order"
    if _clear(right[best], right[other]) and right[best] > 1.5 * n / prepared.head.classes:
        return best, f"read so, {figures}, {beside}; --class-order decides otherwise"
    return "lexical", (
        f"this is an assumption, as read in {best} order {figures}, and {beside}. Say with --class-order lexical or "
        "natural which one the model was trained with"
    )


def _right(
    root: Path, ways: Mapping[Order, tuple[str, ...]], prepared: Prepared, form: Preprocess
) -> tuple[dict[Order, int], int]:
    """How many images of the folders whose place differs the model answers rightly in each order, and of how many."""
    lexical = ways["lexical"]
    places = {way: {name: place for place, name in enumerate(names)} for way, names in ways.items()}
    differing = [name for name in lexical if places["natural"][name] != places["lexical"][name]]
    step = -(-len(differing) // MOST_FOLDERS)
    asked = differing[::step]
    images = folder_images(root, asked, max(2, min(MOST_OF_A_FOLDER, MOST_IMAGES // len(asked))), form)
    task = task_of(prepared.head, tuple(range(prepared.head.classes)))
    session = open_stock(prepared.source.path)
    right = dict.fromkeys(ORDERS, 0)
    for inputs, labels in images.batches(32):
        answered = preferred(outputs_of(session, inputs, task.output), task).all
        for way in ORDERS:
            truth = np.array([places[way][asked[label]] for label in (labels if labels is not None else ())])
            right[way] += int((answered == truth).sum())
    return right, len(images)


def _clear(first: int, second: int) -> bool:
    """Whether a coin would hardly fall so unevenly: `first` heads and `second` tails."""
    n = first + second
    return first > second and sum(comb(n, k) for k in range(first, n + 1)) / 2**n < CHANCE
