"""`saliency`: sums of every class, kept once in a file, out of which `compress --bank` takes those of any list."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from crisp_onnx.api.acceptance import Accepted, accept
from crisp_onnx.api.crossing import cross
from crisp_onnx.api.device import find_device
from crisp_onnx.api.files_read import files_read
from crisp_onnx.api.first_look import first_look
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.sight import HELD_OUT
from crisp_onnx.api.words import NameOptions, find_classes, find_form, find_labels
from crisp_onnx.data import Classes, Images, InputForm, Label, Labels, Preprocess, Source, hold_out, open_images
from crisp_onnx.data.folder_order import Order
from crisp_onnx.data.labels import folded
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, WeightLayer, load
from crisp_onnx.processes import processes
from crisp_onnx.progress import bar
from crisp_onnx.reading import shown
from crisp_onnx.report.findings import BankFound
from crisp_onnx.report.wording import size_text
from crisp_onnx.saliency import Criterion, criterion_named
from crisp_onnx.saliency.bank import (
    MOST_DIGESTS,
    Origin,
    Subject,
    add_banks,
    bank_bytes,
    open_bank,
    write_bank,
)
from crisp_onnx.saliency.collection import by_class, shape_of, sums_of
from crisp_onnx.task import Classification, task_of
from crisp_onnx.writing import keep_inputs, require_name, require_place

ANOTHER = "Choose another name with --output."


def make_bank(
    model: Path,
    *,
    data: Source,
    output: Path,
    criterion: str = "crisp",
    classes: Path | tuple[str | int, ...] | None = None,
    labels: Path | None = None,
    labels_offset: int | None = None,
    class_order: Order | None = None,
    output_name: str | Sequence[str] | None = None,
    preprocess: str | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> BankFound | None:
    """Sum up what `criterion` needs to know, class by class, over the labelled images in `data`, and write `output`.

    `classes`: those to keep sums of; by default all outputs that `data` has images of. The images that `compress` holds
    out with this `seed` are left out. Under `torchrun` the processes share the classes; the first one writes, and the
    others answer None.

    Raises:
        CrispError: the model, the data or an option is at fault, or the sums are more than the disk holds.
    """
    chosen = criterion_named(criterion)
    require_sums(chosen)
    _require_output(output, [Path(model), *files_read([output], data, labels, preprocess, classes)])
    source = load(model)
    form = find_form(preprocess, source, data)
    accepted = accept(prepare(source, size=form.size, output=output_name))
    prepared = accepted.prepared
    named = find_labels(prepared, form, NameOptions(labels, labels_offset, class_order), data)
    outputs = prepared.head.classes
    wanted = _wanted(classes, named.labels, outputs)
    images = open_images(data, wanted, named.labels, form, outputs, each=classes is not None)
    images = _seen(images, seed)
    parts = {int(part.labels[0]): part for part in by_class(images) if part.labels is not None}
    counts = {index: len(part) for index, part in parts.items()}
    held = Classes(tuple(counts), tuple(_name(named.labels, index) for index in counts))
    told = first_look(_Looked(prepared, held, task_of(prepared.head, held.indices), images))
    layers = _summed(accepted)
    shapes = {layer.weight: shape_of(chosen, layer) for layer in layers}
    _require_room(output, bank_bytes(shapes, len(counts)), len(counts))
    crossed, task = cross(accepted, find_device(device)), task_of(prepared.head, tuple(counts))
    with processes() as these, bar("saliency", len(images)) as advance:

        def compute(index: int) -> Mapping[str, Tensor]:
            return sums_of(
                chosen, crossed.module, crossed.model, layers, parts[index], task, batch_size=crossed.batch,
                advance=advance,
            ).totals  # fmt: skip

        sums = these.shared(tuple(counts), shapes, compute)
        if these.first:
            left = tuple(index for index in range(outputs) if index not in wanted.indices)
            subject = subject_of(source, task.outputs, chosen, form, seed)
            write_bank(output, subject, counts, shapes, sums, origin_of(parts, named.labels, left))
        else:
            deque(sums, maxlen=0)  # its share is computed and sent
            return None
    size = bank_bytes(shapes, len(counts))
    return BankFound(output, chosen.needs, counts, len(shapes), size, (*named.notes, *told, *images.told()))


def merge_banks(banks: Sequence[Path], *, output: Path) -> BankFound:
    """Add up the sums of several banks of one model, made of different images, and write `output`.

    Raises:
        CrispError: they are of different models or made differently, or the sums are more than the disk holds.
    """
    if len(banks) < 2:
        raise CrispError("Name two banks or more to merge.")
    _require_output(output, banks)
    opened = [open_bank(path) for path in banks]
    counts = {index for bank in opened for index in bank.images}
    _require_room(output, bank_bytes(opened[0].shapes, len(counts)), len(counts))
    bank = add_banks(opened, output)
    return BankFound(output, bank.subject.statistic, bank.images, len(bank.shapes), bank.bytes, ())


def subject_of(source: Model, output: str, criterion: Criterion, form: InputForm, seed: int) -> Subject:
    """What sums of this run are of."""
    prepared = form.describe() if isinstance(form, Preprocess) else f"{form.dtype} values {form.shape} as they are"
    return Subject(source.sha256, output, criterion.needs, prepared, seed)


def require_sums(criterion: Criterion) -> None:
    if not criterion.from_images:
        raise CrispError(f"--saliency {criterion.name} learns nothing from images, so it has no use for a bank.")


def origin_of(parts: Mapping[int, Images], labels: Labels | None, left_out: Sequence[int]) -> Origin:
    """Where the sums of each class's images come from."""
    entries = {} if labels is None else labels.entries
    names = {index: words_of(label) for index, label in entries.items()}
    seen = {}
    for index, part in parts.items():
        digests = {hashlib.blake2b(piece, digest_size=8).hexdigest() for piece in part.store.content(part.rows)}
        seen[index] = tuple(sorted(digests)[:MOST_DIGESTS])
    return Origin(names, seen, tuple(left_out))


def words_of(label: Label) -> tuple[str, ...]:
    return tuple(dict.fromkeys(folded(word) for word in (label.wnid, label.whole, *label.names) if word))


def _name(labels: Labels | None, index: int) -> str:
    return labels.name(index) if labels else str(index)


@dataclass(frozen=True)
class _Looked:
    """What the first look at the images to sum over is to know."""

    prepared: Prepared
    classes: Classes
    answers: Classification
    images: Images | None
    judged: Images | None = None


def _wanted(classes: Path | tuple[str | int, ...] | None, labels: Labels | None, outputs: int) -> Classes:
    """The classes to keep sums of: those named, or all outputs."""
    if classes is not None:
        return find_classes(classes, labels, outputs)
    return Classes(tuple(range(outputs)), tuple(_name(labels, index) for index in range(outputs)))


def _seen(images: Images, seed: int) -> Images:
    """Those that `compress` would learn from."""
    if images.labels is None:
        raise CrispError(f"The images of {images.source} have no labels, so no class has sums of its own.")
    if np.unique(images.labels, return_counts=True)[1].max() < 2:
        return images
    return hold_out(images, HELD_OUT, seed=seed)[0]


def _summed(accepted: Accepted) -> tuple[WeightLayer, ...]:
    """The layers that some run may make sparse."""
    prepared, learnable = accepted.prepared, dict(accepted.module.named_parameters())
    layers = tuple(
        layer
        for layer in prepared.layers
        if not layer.obstacle and layer.name not in prepared.left and layer.weight in learnable
    )
    if not layers:
        raise CrispError(f"No prunable layer in {prepared.source.path.name}. `crisp-onnx check` shows every layer.")
    return layers


def _require_output(output: Path, inputs: Sequence[Path]) -> None:
    """That a bank can be written there, over none of what is read."""
    keep_inputs([output], inputs, ANOTHER)
    require_name(output, (".safetensors",), "a bank")
    require_place(output)


def _require_room(output: Path, needed: int, classes: int) -> None:
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise CrispError(
            f"The sums of {classes} classes take {size_text(needed)}, and {size_text(free)} are free in "
            f"{shown(str(output.parent))}. Name fewer classes with --classes, or another place with --output."
        )
