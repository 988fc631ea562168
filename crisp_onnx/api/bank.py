"""`saliency`: sums of every class, kept once in a file, out of which `compress --bank` takes those of any list."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from crisp_onnx.api.acceptance import Accepted, accept
from crisp_onnx.api.crossing import cross
from crisp_onnx.api.device import find_device
from crisp_onnx.api.files_read import files_read
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.sight import HELD_OUT
from crisp_onnx.api.words import NameOptions, find_classes, find_form, find_labels
from crisp_onnx.data import Classes, Images, InputForm, Labels, Preprocess, Source, hold_out, open_images
from crisp_onnx.data.folder_order import Order
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, WeightLayer, load
from crisp_onnx.processes import processes
from crisp_onnx.progress import bar
from crisp_onnx.reading import shown
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.findings import BankFound
from crisp_onnx.report.wording import size_text
from crisp_onnx.saliency import Criterion, criterion_named
from crisp_onnx.saliency.bank import Bank, Subject, add_banks, bank_bytes, differences, open_bank, write_bank
from crisp_onnx.saliency.collection import by_class, shape_of, sums_of
from crisp_onnx.task import Classification, task_of
from crisp_onnx.writing import keep_inputs, require_place

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
    _require_sums(chosen)
    read = files_read([output], data, labels, preprocess, classes)
    keep_inputs([output], [Path(model), *read], ANOTHER)
    require_place(output)
    source = load(model)
    form = find_form(preprocess, source, data)
    accepted = accept(prepare(source, size=form.size, output=output_name))
    prepared = accepted.prepared
    named = find_labels(prepared, form, NameOptions(labels, labels_offset, class_order), data)
    images = _seen(data, classes, named.labels, form, prepared, seed)
    parts = {int(part.labels[0]): part for part in by_class(images) if part.labels is not None}
    counts = {index: len(part) for index, part in parts.items()}
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
            write_bank(output, subject_of(source, task.outputs, chosen, form, seed), counts, shapes, sums)
        else:
            deque(sums, maxlen=0)  # its share is computed and sent
            return None
    size = bank_bytes(shapes, len(counts))
    return BankFound(output, chosen.needs, counts, len(shapes), size, (*named.notes, *images.told()))


def merge_banks(banks: Sequence[Path], *, output: Path) -> BankFound:
    """Add up the sums of several banks of one model, made of different images, and write `output`.

    Raises:
        CrispError: they are of different models or made differently, or the sums are more than the disk holds.
    """
    if len(banks) < 2:
        raise CrispError("Name two banks or more to merge.")
    keep_inputs([output], banks, ANOTHER)
    require_place(output)
    opened = [open_bank(path) for path in banks]
    counts = {index for bank in opened for index in bank.images}
    _require_room(output, bank_bytes(opened[0].shapes, len(counts)), len(counts))
    bank = add_banks(opened, output)
    return BankFound(output, bank.subject.statistic, bank.images, len(bank.shapes), bank.bytes, ())


def fitting_bank(
    recipe: Recipe, source: Model, form: InputForm, answers: Classification, layers: Sequence[WeightLayer]
) -> tuple[Bank | None, tuple[str, ...]]:
    """The recipe's bank, if it names one, and what the user should know of it.

    `layers`: those that may become sparse.

    Raises:
        CrispError: it is of another model, made with another preprocessing or for another criterion, or lacks a class.
    """
    if recipe.bank is None:
        return None, ()
    chosen = criterion_named(recipe.saliency)
    _require_sums(chosen)
    bank, name = open_bank(recipe.bank), shown(str(recipe.bank))
    asked = subject_of(source, answers.outputs, chosen, form, recipe.seed)
    unlike = differences(bank.subject, replace(asked, seed=bank.subject.seed))
    if unlike:
        raise CrispError(
            f"The bank {name} does not serve this run: {unlike[0]}. Make one of {source.path.name} with `crisp-onnx "
            "saliency` and the options of this run."
        )
    lacking = bank.lacks(answers.wanted)
    if lacking:
        raise CrispError(
            f"The bank {name} holds no sums of output {lacking[0]}: its data had no images of it. Make it of data that "
            "have, or take the class off the list."
        )
    unknown = [layer.weight for layer in layers if bank.shapes.get(layer.weight) != shape_of(chosen, layer)]
    if unknown:
        raise CrispError(f"The bank {name} does not know weight {unknown[0]!r} as it is. Make it anew.")
    bank.require_sound(answers.wanted, [layer.weight for layer in layers])
    notes = [f"Saliency comes from {recipe.bank.name}, over {sum(bank.images[i] for i in answers.wanted):,} images."]
    if bank.subject.seed != recipe.seed:
        notes.append(
            f"The bank was made with seed {bank.subject.seed} and this run has {recipe.seed}: images held out here are "
            "among those that it was summed over."
        )
    return bank, tuple(notes)


def subject_of(source: Model, output: str, criterion: Criterion, form: InputForm, seed: int) -> Subject:
    """What sums of this run are of."""
    prepared = form.describe() if isinstance(form, Preprocess) else f"{form.dtype} values {form.shape} as they are"
    return Subject(source.sha256, output, criterion.needs, prepared, seed)


def _require_sums(criterion: Criterion) -> None:
    if not criterion.from_images:
        raise CrispError(f"--saliency {criterion.name} learns nothing from images, so it has no use for a bank.")


def _seen(
    data: Source,
    classes: Path | tuple[str | int, ...] | None,
    labels: Labels | None,
    form: InputForm,
    prepared: Prepared,
    seed: int,
) -> Images:
    """The images that `compress` would learn from, of all outputs that the data show or of the classes named."""
    outputs = prepared.head.classes
    names = tuple(labels.name(index) if labels else str(index) for index in range(outputs))
    wanted = Classes(tuple(range(outputs)), names) if classes is None else find_classes(classes, labels, outputs)
    images = open_images(data, wanted, labels, form, each=classes is not None)
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


def _require_room(output: Path, needed: int, classes: int) -> None:
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise CrispError(
            f"The sums of {classes} classes take {size_text(needed)}, and {size_text(free)} are free in "
            f"{shown(str(output.parent))}. Name fewer classes with --classes, or another place with --output."
        )
